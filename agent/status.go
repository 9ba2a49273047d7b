package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/enrol"
	"github.com/openmigrate/openmigrate/wire"
)

// Status is what an agent says of itself to people on its own host. It holds no secrets.
type Status struct {
	Machine       string         `json:"machine,omitempty"`
	MachineName   string         `json:"machine_name,omitempty"`
	Project       string         `json:"project,omitempty"`
	Master        string         `json:"master,omitempty"`
	State         string         `json:"state"` // starting, enrolling, connecting, waiting, idle, replicating, error, copy, stopped
	Message       string         `json:"message,omitempty"`
	Error         string         `json:"error,omitempty"`   // the last one; empty once a restpoint was made after it
	Tracker       string         `json:"tracker,omitempty"` // that the disks have: scan, ebpf, or both, with a comma
	LastRestpoint string         `json:"last_restpoint,omitempty"`
	LastTime      *time.Time     `json:"last_time,omitempty"`
	Progress      *wire.Progress `json:"progress,omitempty"` // of the cycle that runs
	PID           int            `json:"pid"`
	Updated       time.Time      `json:"updated"`
	Running       bool           `json:"running"` // as ReadStatus found it
}

const statusName = "status.json"

// ReadStatus reads what the agent of a state directory said last, and whether it runs now. os.ErrNotExist: none ever ran there.
func ReadStatus(stateDir string) (*Status, error) {
	b, err := os.ReadFile(filepath.Join(stateDir, statusName))
	if err != nil {
		return nil, fmt.Errorf("read the agent's status: %w", err)
	}
	s := new(Status)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read the agent's status: %w", err)
	}
	// The lock is not tried: an agent that starts at this moment would find it taken.
	s.Running = s.State != "stopped" && alive(s.PID)
	if !s.Running && s.State != "stopped" {
		s.State, s.Message, s.Progress = "stopped", "the agent was killed", nil
	}
	return s, nil
}

func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return pid > 0 && (err == nil || errors.Is(err, syscall.EPERM))
}

// statusFile keeps a Status in the state directory. It is replaced as a whole but not synced: it is of no use after a crash.
// A write that fails changes nothing for the agent, and is not reported.
type statusFile struct {
	path  string
	clock clock.Clock
	gate  *gate

	mu sync.Mutex
	s  Status // guarded by mu
}

func newStatusFile(d *state.Dir, c clock.Clock, g *gate) *statusFile {
	f := &statusFile{path: d.Path(statusName), clock: c, gate: g}
	f.change(func(s *Status) { s.State, s.Tracker, s.PID = "starting", "scan", os.Getpid() })
	return f
}

func (f *statusFile) change(fn func(*Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(&f.s)
	f.s.Updated = f.clock.Now()
	b, err := json.MarshalIndent(&f.s, "", "  ")
	if err != nil {
		return
	}
	f.gate.try(func() {
		if os.WriteFile(f.path+".new", b, 0o600) == nil {
			_ = os.Rename(f.path+".new", f.path)
		}
	}, func() {}) // whoever opens the gate changes it once more
}

// set changes the state; a nil error leaves the last one.
func (f *statusFile) set(state string, err error) {
	f.change(func(s *Status) {
		s.State, s.Message, s.Progress = state, "", nil
		if err != nil {
			s.Error = err.Error()
		}
	})
}

// waiting says what is tried again and why. A renewal goes on beside other work, whose state stays.
func (f *statusFile) waiting(doing string, err error) {
	f.change(func(s *Status) {
		s.Error = err.Error()
		if doing != enrol.Renewing {
			s.State, s.Message, s.Progress = doing, "waiting for the master", nil
		}
	})
}

func (f *statusFile) identity(id *state.Identity, url string) {
	f.change(func(s *Status) { s.Machine, s.MachineName, s.Project, s.Master = id.ID, id.Name, id.Project, url })
}

func (f *statusFile) wait(p plan) {
	f.change(func(s *Status) { s.State, s.Message, s.Progress = p.state, p.message, nil })
}

func (f *statusFile) progress(p wire.Progress) {
	f.change(func(s *Status) { s.State, s.Message, s.Progress = "replicating", p.Phase, &p })
}

// last notes the newest restpoint; at is zero when only its id is known.
func (f *statusFile) last(restpoint string, at time.Time) {
	f.change(func(s *Status) {
		s.LastRestpoint, s.LastTime = restpoint, nil
		if !at.IsZero() {
			s.LastTime, s.Error = &at, ""
		}
	})
}

// trackers notes by which means disks are followed.
func (f *statusFile) trackers(disks []cycle.DiskResult) {
	names := make([]string, 0, len(disks))
	for _, d := range disks {
		names = append(names, d.Tracker)
	}
	slices.Sort(names)
	f.change(func(s *Status) { s.Tracker = strings.Join(slices.Compact(names), ", ") })
}

// copied notes that this host is a copy.
func (f *statusFile) copied(words, help string) {
	f.change(func(s *Status) { s.State, s.Message, s.Error, s.Progress = "copy", words, help, nil })
}

func (f *statusFile) stopped(err error) { f.set("stopped", err) }

func (f *statusFile) hold(state string, h *wire.HoldReport) {
	f.change(func(s *Status) { s.State, s.Message, s.Progress = state, holdWords(h), nil })
}
