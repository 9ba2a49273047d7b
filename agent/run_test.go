package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/internal/enrol"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

// process is a running agent.
type process struct {
	t    *testing.T
	stop context.CancelFunc
	made chan *cycle.Result
	end  chan error
}

// patience is how long a test waits for what should come at once.
const patience = 30 * time.Second

func (m *master) start(o Options) *process {
	ctx, cancel := context.WithCancel(m.t.Context())
	p := &process{t: m.t, stop: cancel, made: make(chan *cycle.Result, 16), end: make(chan error, 1)}
	o.Log = slog.New(slog.DiscardHandler)
	o.Done = func(r *cycle.Result) { p.made <- r }
	o.Inventory = func(context.Context) (*wire.Inventory, error) {
		return &wire.Inventory{Hostname: "web1", Fingerprint: "f"}, nil
	}
	go func() { p.end <- Run(ctx, o) }()
	m.t.Cleanup(cancel)
	return p
}

func (p *process) restpoint() *cycle.Result {
	p.t.Helper()
	select {
	case r := <-p.made:
		return r
	case err := <-p.end:
		p.t.Fatalf("the agent ended: %v", err)
	case <-time.After(patience):
		p.t.Fatal("no restpoint was made")
	}
	return nil
}

func (p *process) wait() error {
	p.t.Helper()
	select {
	case err := <-p.end:
		return err
	case <-time.After(patience):
		p.t.Fatal("the agent goes on")
	}
	return nil
}

func image(t *testing.T, size int) (path string, b []byte) {
	t.Helper()
	path, b = filepath.Join(t.TempDir(), "disk.img"), make([]byte, size)
	r := rand.NewChaCha8([32]byte{7})
	_, _ = r.Read(b[:size/2]) // never fails; the rest is zeros
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, b
}

// TestRun is an agent's life: enrolled, a restpoint, stopped, started again from its state alone, a second restpoint, revoked.
func TestRun(t *testing.T) {
	m := newMaster(t)
	path, b := image(t, 4<<20)
	src, err := source.New(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{StateDir: t.TempDir(), Disks: []string{path}, Token: m.token()}
	p := m.start(o)
	first := p.restpoint()
	m.MustRestore(first.Restpoint, catalogtest.Disk{ID: src.ID(), Data: b})
	if r := m.machine().Report; r.Cycle == nil || r.Cycle.Restpoint != first.Restpoint || r.Cycle.Backlog == 0 || len(r.Cycle.Why) == 0 ||
		len(r.Disks) != 1 || r.Disks[0].ID != src.ID() || r.Disks[0].Tracker != "scan" || r.Disks[0].Consistency != "fuzzy" || r.Disks[0].ConsistencyWhy == "" {
		t.Errorf("the master was told %+v", r)
	}
	s, err := ReadStatus(o.StateDir)
	if err != nil || !s.Running || s.MachineName != "web1" || s.LastRestpoint != first.Restpoint || s.Error != "" {
		t.Errorf("status %+v, %v", s, err)
	}
	if _, err := state.Open(o.StateDir); !errors.Is(err, state.ErrLocked) {
		t.Errorf("a second process in the directory: %v", err)
	}
	p.stop()
	if err := p.wait(); err != nil {
		t.Fatalf("stopped with %v", err)
	}
	if s, err := ReadStatus(o.StateDir); err != nil || s.Running || s.State != "stopped" || s.Error != "" {
		t.Errorf("status %+v, %v", s, err)
	}

	copy(b[1<<20:], bytes.Repeat([]byte("new"), 1000))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	m.sync()
	o.Token = ""
	p = m.start(o)
	second := p.restpoint()
	m.MustRestore(second.Restpoint, catalogtest.Disk{ID: src.ID(), Data: b})
	if second.Restpoint == first.Restpoint || second.Stats.Sent == 0 || second.Stats.Sent >= first.Stats.Sent || second.Stats.Same == 0 {
		t.Errorf("second restpoint: %+v after %+v", second.Stats, first.Stats)
	}

	m.revoke()
	if err := p.wait(); !wire.HasCode(err, wire.CodeRevoked) || !enrol.Final(err) {
		t.Errorf("revoked, it ended with %v", err)
	}
	if s, err := ReadStatus(o.StateDir); err != nil || s.State != "stopped" || s.Error == "" {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := m.start(o).wait(); !wire.HasCode(err, wire.CodeRevoked) {
		t.Errorf("started again, it ended with %v", err)
	}
}

// TestRunWaits: the status says what an agent waits for that cannot reach its master.
func TestRunWaits(t *testing.T) {
	m := newMaster(t)
	path, _ := image(t, 1<<20)
	o := Options{StateDir: t.TempDir(), Disks: []string{path}, Token: m.token()}
	for _, want := range []string{"enrolling", "connecting"} {
		refused := make(chan struct{}, 100)
		away := func(p string) bool {
			if p == wire.PathEnroll && want == "connecting" {
				return true
			}
			refused <- struct{}{}
			return false
		}
		m.hooks(away, nil)
		p := m.start(o)
		for range 2 { // the second try comes after the status of the first
			<-refused
		}
		s, err := ReadStatus(o.StateDir)
		if err != nil || s.State != want || s.Message != "waiting for the master" || s.Error == "" {
			t.Errorf("status %+v, %v; want %s", s, err, want)
		}
		p.stop()
		if err := p.wait(); err != nil {
			t.Errorf("stopped while %s: %v", want, err)
		}
	}
}

// TestRefusedCertificate: a poll that is refused for the certificate, which by this host's clock is good, has it renewed.
func TestRefusedCertificate(t *testing.T) {
	m := newMaster(t)
	path, _ := image(t, 1<<20)
	p := m.start(Options{StateDir: t.TempDir(), Disks: []string{path}, Token: m.token()})
	p.restpoint()
	refused := make(chan struct{})
	var once sync.Once
	m.hooks(func(p string) bool {
		if p == wire.PathAgentAssignment {
			once.Do(func() {
				m.Clock.Advance(25 * time.Hour) // the master's, not ours
				close(refused)
			})
		}
		return true
	}, nil)
	m.pause(true) // the poll that waits returns, and the next one comes too late
	<-refused
	m.pause(false)
	m.sync()
	p.restpoint()
	p.stop()
	if err := p.wait(); err != nil {
		t.Error(err)
	}
}

// TestDiskTroubleIsToldOnce, whether a session was open or not, and whether the master heard of its end or not.
func TestDiskTroubleIsToldOnce(t *testing.T) {
	for name, c := range map[string]struct {
		vanishes, unheard bool
		code              string
	}{
		"shrinks in a session":     {code: "disk-shrunk"},
		"and the end is not heard": {unheard: true, code: "disk-shrunk"},
		"vanishes before":          {vanishes: true, code: "disk-vanished"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMaster(t)
			path, _ := image(t, 4<<20)
			reported := make(chan struct{}, 100)
			if c.vanishes {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			m.hooks(func(p string) bool {
				if p == wire.PathAgentSessions {
					if err := os.Truncate(path, 1<<20); err != nil {
						t.Error(err)
					}
				}
				return !c.unheard || !isAbort(p)
			}, func(p string) {
				if p == wire.PathAgentReport {
					reported <- struct{}{}
				}
			})
			p := m.start(Options{StateDir: t.TempDir(), Disks: []string{path}, Token: m.token()})
			for state := ""; state != "error"; {
				select {
				case <-reported:
					state = m.machine().Report.State
				case <-time.After(patience):
					t.Fatal("no failure was reported")
				}
			}
			p.stop()
			if err := p.wait(); err != nil {
				t.Error(err)
			}
			if failure := m.machine().Failure; !strings.Contains(failure, filepath.Base(path)) {
				t.Errorf("the cycle failed for %q", failure)
			}
			got := m.machine().Events
			if len(got) != 1 || got[0].Code != c.code || got[0].Level != "error" {
				t.Errorf("events %+v, want one of %s", got, c.code)
			}
		})
	}
}
