package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

// services is a directory of cutover hooks that note each call.
type services struct {
	t        *testing.T
	dir, log string
}

// newServices makes hooks 1 and 2; body runs in each, with $1.
func newServices(t *testing.T, body string) *services {
	t.Helper()
	roottest.Need(t, "hooks, which must be owned by root")
	s := &services{t: t, dir: t.TempDir(), log: filepath.Join(t.TempDir(), "log")}
	for _, name := range []string{"1", "2"} {
		script := fmt.Sprintf("#!/bin/sh\necho %s $1 >> %s\n%s\n", name, s.log, body)
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// want checks what was called so far.
func (s *services) want(when string, calls ...string) {
	s.t.Helper()
	b, _ := os.ReadFile(s.log)
	got := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(b) == 0 {
		got = nil
	}
	if !slices.Equal(got, calls) {
		s.t.Errorf("%s: hooks were called %q, want %q", when, got, calls)
	}
}

func (m *master) hold(h *wire.Hold) {
	m.t.Helper()
	if err := m.Catalog.SetHold(m.t.Context(), m.machine().ID, h); err != nil {
		m.t.Fatal(err)
	}
}

// heard waits until the agent says that the hold is in a state.
func (m *master) heard(state string) wire.HoldReport {
	m.t.Helper()
	var r wire.HoldReport
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if r = m.machine().HoldReport; r.State == state {
			return r
		}
	}
	m.t.Fatalf("the hold is %+v, want %s", r, state)
	return r
}

// TestHoldOfImage: what cannot be frozen is held as it is; services are stopped, nothing is replicated until the release, and then it goes on.
func TestHoldOfImage(t *testing.T) {
	m, s := newMaster(t), newServices(t, "")
	path, b := image(t, 4<<20)
	src, err := source.New(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{StateDir: t.TempDir(), Disks: []string{path}, Token: m.token(), CutoverHooks: s.dir}
	p := m.start(o)
	first := p.restpoint()
	copy(b, "last words")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	m.hold(&wire.Hold{ID: "L", Timeout: wire.Duration(time.Hour)})
	r := m.heard(wire.HoldFrozen)
	if !strings.Contains(r.Message, "nothing could be frozen") {
		t.Errorf("told %+v", r)
	}
	if got := m.machine(); got.LastRestpoint != r.Restpoint || !slices.Contains(got.Syncs, catalog.SyncDone{ID: "L", Restpoint: r.Restpoint}) || r.Restpoint == first.Restpoint {
		t.Errorf("%s is listed, %v; told %+v", got.LastRestpoint, got.Syncs, r)
	}
	m.MustRestore(r.Restpoint, catalogtest.Disk{ID: src.ID(), Data: b})
	s.want("held", "1 stop", "2 stop")
	if st, err := ReadStatus(o.StateDir); err != nil || !strings.Contains(st.Message, "cutover L: frozen") {
		t.Errorf("status %+v, %v", st, err)
	}
	m.hold(nil)
	m.heard(wire.HoldReleased)
	s.want("released", "1 stop", "2 stop", "2 start", "1 start")
	m.sync()
	if next := p.restpoint(); next.Stats.Sent != 0 || next.Stats.Same == 0 {
		t.Errorf("the next cycle did not go on from the hold's restpoint: %+v", next.Stats)
	}
	if _, err := os.Stat(filepath.Join(o.StateDir, holdFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the hold was not forgotten: %v", err)
	}
	p.stop()
	if err := p.wait(); err != nil {
		t.Error(err)
	}
}

// TestHoldEnds: in ways other than by a release.
func TestHoldEnds(t *testing.T) {
	stop, start := []string{"1 stop", "2 stop"}, []string{"2 start", "1 start"}
	for name, c := range map[string]struct {
		hook        string
		hold        wire.Hold
		live        bool
		state, says string
		held, after []string // hooks at that state, and after the release
	}{
		"time is up":       {hold: wire.Hold{Timeout: wire.Duration(300 * time.Millisecond)}, state: wire.HoldLost, says: "within 300ms", held: stop, after: start},
		"a hook fails":     {hook: "[ $1 = start ] || { echo no such unit; exit 1; }", state: wire.HoldFailed, says: "no such unit", held: []string{"1 stop", "1 start"}},
		"the source stops": {hold: wire.Hold{StopSource: true}, live: true, state: wire.HoldOff, held: stop, after: start},
		"live":             {hold: wire.Hold{Timeout: wire.Duration(2 * time.Second)}, live: true, state: wire.HoldFrozen, held: stop, after: start},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := newMaster(t), newServices(t, c.hook)
			path, _ := image(t, 1<<20)
			var off atomic.Int32
			o := Options{StateDir: t.TempDir(), Disks: []string{path}, Token: m.token(), CutoverHooks: s.dir,
				PowerOff: func() error { off.Add(1); return nil }}
			p := m.start(o)
			p.restpoint()
			c.hold.ID = "L"
			m.hold(&c.hold)
			if c.live {
				m.heard(wire.HoldFrozen)
				c.hold.Live = true
				m.hold(&c.hold)
				if !c.hold.StopSource {
					time.Sleep(time.Duration(c.hold.Timeout) + time.Second) // it does not count any more
				}
			}
			if r := m.heard(c.state); !strings.Contains(r.Message, c.says) {
				t.Errorf("told %+v", r)
			}
			s.want(c.state, c.held...)
			sequence := m.machine().Sequence
			if c.hold.StopSource { // and somebody turns it on again
				for end := time.Now().Add(patience); off.Load() == 0 && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
				p.stop()
				if err := p.wait(); err != nil || off.Load() != 1 {
					t.Errorf("the source was powered off %d times; %v", off.Load(), err)
				}
				p = m.start(o)
				for end := time.Now().Add(patience); !strings.Contains(m.machine().HoldReport.Message, liveWords) && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
				if r := m.heard(wire.HoldLost); !strings.Contains(r.Message, liveWords) {
					t.Errorf("started again, it told %+v", r)
				}
				s.want("started again", c.held...)
			}
			if got := m.machine().Sequence; got != sequence {
				t.Errorf("%d restpoints were made after the hold", got-sequence)
			}
			m.hold(nil)
			m.heard(wire.HoldReleased)
			s.want("released", append(c.held, c.after...)...)
			m.sync()
			p.restpoint()
			p.stop()
			if err := p.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHoldFound: what an agent that was killed left is told as it is, services are started once, and nothing is frozen for the same hold again.
func TestHoldFound(t *testing.T) {
	for name, c := range map[string]struct {
		found        holdRecord
		state        string
		calls, after []string
	}{
		"stopping": {holdRecord{Phase: wire.HoldStopping, Stopped: []string{"1"}}, wire.HoldFailed, []string{"1 start"}, nil},
		"syncing":  {holdRecord{Phase: wire.HoldSyncing, Stopped: []string{"1", "2"}}, wire.HoldFailed, []string{"2 start", "1 start"}, nil},
		"freezing": {holdRecord{Phase: phaseFreezing, Stopped: []string{"1", "2"}, Boot: bootID()}, wire.HoldLost, nil, []string{"2 start", "1 start"}},
		"rebooted": {holdRecord{Phase: phaseFreezing, Stopped: []string{"1", "2"}, Boot: "another"}, wire.HoldLost, nil, []string{"2 start", "1 start"}},
		"lost":     {holdRecord{Phase: wire.HoldLost, Stopped: []string{"1", "2"}}, wire.HoldLost, nil, []string{"2 start", "1 start"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := newMaster(t), newServices(t, "")
			path, _ := image(t, 1<<20)
			o := Options{StateDir: t.TempDir(), Disks: []string{path}, Token: m.token(), CutoverHooks: s.dir}
			p := m.start(o)
			p.restpoint()
			p.stop()
			if err := p.wait(); err != nil {
				t.Fatal(err)
			}
			m.hold(&wire.Hold{ID: "L"})
			dir, err := state.Open(o.StateDir)
			if err != nil {
				t.Fatal(err)
			}
			c.found.ID = "L"
			for i := range c.found.Stopped {
				c.found.Stopped[i] = filepath.Join(s.dir, c.found.Stopped[i])
			}
			if err := errors.Join(dir.Write(holdFile, &c.found), dir.Close()); err != nil {
				t.Fatal(err)
			}
			p = m.start(o)
			m.heard(c.state)
			s.want("started again", c.calls...)
			if got := m.machine(); got.Sequence != 1 {
				t.Errorf("it made restpoint %d", got.Sequence)
			}
			m.hold(nil)
			m.heard(wire.HoldReleased)
			s.want("released", append(c.calls, c.after...)...)
			m.sync()
			p.restpoint()
			p.stop()
			if err := p.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
