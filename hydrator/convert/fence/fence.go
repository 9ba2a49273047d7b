// Package fence runs a program of a system that is not ours, inside that system's own folder, so that it can do nothing but
// change that system.
//
// The program sees the folder as its root and nothing else of this machine: it has process, mount, network, IPC and
// host name spaces of its own, no network, no devices but null, zero, full, random, urandom and tty, an empty /sys, and a /proc that
// shows itself and cannot be written. It is root without the capabilities that reach beyond files: none to mount, to make
// devices, to open files by handle, to trace, to load modules. It has a time limit; what it prints is cut. When it ends,
// or we do, everything that it has started is killed with its process name space.
//
// What it does not prevent: use of the processor and of memory up to the limits of our own control group, and attacks on
// the kernel. Hydrators should be machines of their own.
//
// The first process in the fence is this program itself, started again: see main_linux.go.
package fence

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Command is a program in the system.
type Command struct {
	Root string   // the folder
	Args []string // the program's path in the system, and its arguments
	Env  []string // beyond PATH, HOME, LC_ALL and TMPDIR

	Timeout time.Duration // 0: ten minutes
	Output  int           // how many bytes of what it prints at the end are returned; 0: 64 KiB

	// Shared names two folders in the system that are to be the same inside of the fence: the first is shown at the second.
	Shared [2]string
}

// ErrTimeout says that a program was killed because it took too long.
var ErrTimeout = errors.New("it was stopped because it took too long")

// ExitError is a program's failure.
type ExitError struct {
	Program string
	Status  int // exit status, or 128 and the signal
	Output  string
}

func (e *ExitError) Error() string {
	out := strings.TrimSpace(e.Output)
	if len(out) > 2000 {
		out = "…" + out[len(out)-2000:]
	}
	return fmt.Sprintf("%s: exit status %d: %s", e.Program, e.Status, out)
}

// tail keeps the end of what is written to it.
type tail struct {
	limit int
	b     []byte
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > t.limit {
		p = p[len(p)-t.limit:]
	}
	if over := len(t.b) + len(p) - t.limit; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	t.b = append(t.b, p...)
	return n, nil
}

// setup is what the first process in the fence is told.
type setup struct {
	Root   string
	Args   []string
	Env    []string
	Shared [2]string
}
