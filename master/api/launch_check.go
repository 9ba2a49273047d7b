package api

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/openmigrate/openmigrate/wire"
)

// Limits, in bytes: of what a guest says of itself, and of a path.
const (
	maxRef     = 256
	maxURLPath = 1024
)

// checkCallHome bounds what a guest says of itself; the engine keeps it.
func checkCallHome(h *wire.CallHome) error {
	for _, f := range []struct {
		name, value string
		least       int
	}{{"launch", h.Launch, 1}, {"secret", h.Secret, 1}, {"hostname", h.Hostname, 0}, {"boot_id", h.BootID, 0}} {
		if !words(f.value, f.least, maxRef) {
			return badField(f.name, "%s: want %d to %d bytes of printable text", f.name, f.least, maxRef)
		}
	}
	return nil
}

// words reports whether s is printable text of one line.
func words(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
