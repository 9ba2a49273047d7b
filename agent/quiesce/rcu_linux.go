package quiesce

import (
	"os"
	"strings"
)

// rcuFile makes the kernel's grace periods short while it holds 1 (Documentation/ABI/testing/sysfs-kernel-rcu); the administrator's
// rcu_normal overrides it. A freeze and the tracker's flip each wait for one: some ten milliseconds, or one when they are short. Tests take another file.
var rcuFile = "/sys/kernel/rcu_expedited"

// expedite is the watchdog's hold on it, so that it ends with the freeze also when the agent dies.
type expedite struct {
	f  *os.File // nil: this kernel has no such file, or it may not be written
	on bool
}

func openExpedite() *expedite {
	f, err := os.OpenFile(rcuFile, os.O_RDWR, 0)
	if err != nil {
		return &expedite{}
	}
	return &expedite{f: f}
}

// start shortens grace periods, unless somebody else has.
func (e *expedite) start() {
	if e.f == nil {
		return
	}
	var b [16]byte
	if n, err := e.f.ReadAt(b[:], 0); n > 0 && (err == nil || n < len(b)) && strings.TrimSpace(string(b[:n])) == "0" {
		_, err := e.f.WriteAt([]byte("1"), 0)
		e.on = err == nil
	}
}

// stop puts back what was.
func (e *expedite) stop() {
	if e.on {
		_, _ = e.f.WriteAt([]byte("0"), 0) // it could be written a moment ago
		e.on = false
	}
}
