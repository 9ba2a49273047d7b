package agent

import (
	"context"
	"log/slog"
	"sync"

	"github.com/openmigrate/openmigrate/agent/state"
)

// gate keeps the agent from writing to a disk while file systems are held frozen: whoever did would wait for a thaw that may wait for it. That goes for the state
// directory and for the log, whose reader may have to write before it takes more. What is written meanwhile waits.
type gate struct {
	mu    sync.RWMutex   // held for reading while something is written
	shut  bool           // guarded by mu
	files map[string]any // guarded by mu; by name
	lines []func()       // guarded by mu
	lost  int            // guarded by mu; lines of log that there was no room for
}

// maxLines bounds the lines of log that wait.
const maxLines = 1000

// close returns when nothing is being written any more.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

// open writes what waits, and lets all others write again.
func (g *gate) open(d *state.Dir, log slog.Handler) {
	g.mu.Lock()
	defer g.mu.Unlock()
	plain := slog.New(log)
	for _, line := range g.lines {
		line()
	}
	if g.lost > 0 {
		plain.Warn("lines of log were lost while file systems were frozen", "lines", g.lost)
	}
	for name, v := range g.files {
		if err := d.Write(name, v); err != nil {
			plain.Warn("a file could not be kept", "file", name, "error", err)
		}
	}
	g.shut, g.files, g.lines, g.lost = false, nil, nil, 0
}

// try calls write unless the gate is shut; then later, which may change what waits.
func (g *gate) try(write, later func()) {
	g.mu.RLock()
	if !g.shut {
		defer g.mu.RUnlock()
		write()
		return
	}
	g.mu.RUnlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		later()
	} else {
		write()
	}
}

// gatedDir is the state directory behind the gate. It is what everybody writes to.
type gatedDir struct {
	*state.Dir
	g *gate
}

// Write replaces a file durably, or once the gate is open.
func (d gatedDir) Write(name string, v any) (err error) {
	d.g.try(func() { err = d.Dir.Write(name, v) }, func() {
		if d.g.files == nil {
			d.g.files = map[string]any{}
		}
		d.g.files[name] = v
	})
	return err
}

// SetIdentity replaces the identity. A certificate that is renewed while the gate is shut is lost with the process; the old one can be renewed again.
func (d gatedDir) SetIdentity(id *state.Identity) error { return d.Write("identity.json", id) }

// gatedLog is a log behind the gate.
type gatedLog struct {
	slog.Handler
	g *gate
}

// Handle writes a line, or keeps it until the gate is open.
func (l gatedLog) Handle(ctx context.Context, r slog.Record) (err error) {
	l.g.try(func() { err = l.Handler.Handle(ctx, r) }, func() {
		if len(l.g.lines) == maxLines {
			l.g.lost++
			return
		}
		kept := r.Clone()
		l.g.lines = append(l.g.lines, func() { _ = l.Handler.Handle(context.WithoutCancel(ctx), kept) })
	})
	return err
}

// WithAttrs keeps the gate.
func (l gatedLog) WithAttrs(a []slog.Attr) slog.Handler { return gatedLog{l.Handler.WithAttrs(a), l.g} }

// WithGroup keeps the gate.
func (l gatedLog) WithGroup(name string) slog.Handler {
	return gatedLog{l.Handler.WithGroup(name), l.g}
}

func (g *gate) isShut() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.shut
}
