package convert

import (
	"bytes"
	"strings"
)

// A GRUB environment block is a text of exactly 1024 bytes: a first line, NAME=value lines, and # to fill it. GRUB writes it in
// place by its sectors and takes no other size. Entries of the Boot Loader Specification may get their arguments from its
// kernelopts.
const (
	grubEnvHeader = "# GRUB Environment Block\n"
	grubEnvSize   = 1024
)

// grubEnv changes kernelopts in an environment block. One that would not fit, or is damaged, stays as it is.
func (e *editor) grubEnv(b []byte) []byte {
	if len(b) != grubEnvSize || !bytes.HasPrefix(b, []byte(grubEnvHeader)) {
		return b
	}
	var out strings.Builder
	out.WriteString(grubEnvHeader)
	changed := false
	for line := range strings.Lines(strings.TrimRight(string(b[len(grubEnvHeader):]), "#")) {
		if value, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "kernelopts="); ok {
			next := e.cmdline(value, true)
			changed = changed || next != value
			line = "kernelopts=" + next + "\n"
		}
		out.WriteString(line)
	}
	switch {
	case !changed:
		return b
	case out.Len() > grubEnvSize:
		e.warn("the boot loader's environment block has no room for the new kernel arguments: check root= after the first boot")
		return b
	}
	out.WriteString(strings.Repeat("#", grubEnvSize-out.Len()))
	return []byte(out.String())
}
