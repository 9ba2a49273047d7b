package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// agentEnv holds the options of an agent in a process of its own.
const agentEnv = "OPENMIGRATE_TEST_AGENT"

func agentMain(text string) error {
	var o Options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Inventory = func(context.Context) (*wire.Inventory, error) {
		return &wire.Inventory{Hostname: "web1", Fingerprint: "f"}, nil
	}
	return Run(context.Background(), o)
}

func sh(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// server is a source whose only file system has the agent's state directory, its log and what a writer writes.
type server struct {
	t         *testing.T
	m         *master
	dev, mnt  string
	src       source.Source
	o         Options
	cmd       *exec.Cmd
	acked     atomic.Int64 // lines that the writer knows to be on the disk
	stopWrite chan struct{}
	writer    sync.WaitGroup
}

func newServer(t *testing.T, m *master, hooks string) *server {
	t.Helper()
	roottest.Need(t, "loop devices")
	s := &server{t: t, m: m, stopWrite: make(chan struct{})}
	dir := t.TempDir()
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	sh(t, "truncate", "-s", "64M", img)
	sh(t, "mkfs.ext4", "-q", img)
	s.dev, s.mnt = sh(t, "losetup", "-f", "--show", img), mnt
	t.Cleanup(func() { sh(t, "losetup", "-d", s.dev) })
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	sh(t, "mount", s.dev, mnt)
	t.Cleanup(func() { sh(t, "umount", mnt) })
	var err error
	if s.src, err = source.New(s.dev, nil); err != nil {
		t.Fatal(err)
	}
	s.o = Options{StateDir: filepath.Join(mnt, "state"), Disks: []string{s.dev}, Token: m.token(), CutoverHooks: hooks}
	log, err := os.OpenFile(filepath.Join(mnt, "lines"), os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_DSYNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s.writer.Go(func() {
		defer func() { _ = log.Close() }()
		for {
			select {
			case <-s.stopWrite:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if _, err := fmt.Fprintf(log, "%09d\n", s.acked.Load()+1); err != nil {
				t.Error(err)
				return
			}
			s.acked.Add(1)
		}
	})
	t.Cleanup(s.end)
	return s
}

// end stops agent and writer.
func (s *server) end() {
	if s.cmd != nil {
		s.kill()
	}
	select {
	case <-s.stopWrite:
	default:
		close(s.stopWrite)
		s.writer.Wait()
	}
	// The context of the test has ended by now.
	list, err := s.m.Catalog.Machines(context.Background(), catalog.DefaultProject)
	if err != nil {
		s.t.Error(err)
	}
	for _, machine := range list {
		if err := ebpf.Remove(ebpf.Options{Instance: machine.ID}); err != nil {
			s.t.Errorf("stop tracking: %v", err)
		}
	}
}

func (s *server) start() {
	s.t.Helper()
	text, err := json.Marshal(struct {
		StateDir, Token, CutoverHooks string
		Disks                         []string
	}{s.o.StateDir, s.o.Token, s.o.CutoverHooks, s.o.Disks})
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(s.mnt, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	s.cmd = exec.Command("/proc/self/exe")
	s.cmd.Env = append(os.Environ(), agentEnv+"="+string(text))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the agent without a word, and waits until writers get on.
func (s *server) kill() {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	_ = s.cmd.Wait() // killed
	s.cmd = nil
	s.goesOn("the agent was killed")
}

func (s *server) goesOn(when string) {
	s.t.Helper()
	select {
	case <-s.stopWrite:
		return
	default:
	}
	was := s.acked.Load()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s.acked.Load() > was+1 {
			return
		}
	}
	s.t.Fatalf("%s: the writer is still blocked", when)
}

// waitRestpoint waits for the n-th.
func (s *server) waitRestpoint(n uint64) {
	s.t.Helper()
	for end := time.Now().Add(6 * patience); s.m.machines() == 0 || s.m.machine().Sequence < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b, _ := os.ReadFile(filepath.Join(s.mnt, "log"))
			s.t.Fatalf("restpoint %d was not made:\n%s", n, b)
		}
	}
}

func (m *master) machines() int {
	list, err := m.Catalog.Machines(m.t.Context(), "default")
	if err != nil {
		m.t.Fatal(err)
	}
	return len(list)
}

// lines is how many lines of the writer a restpoint has, which are all there from the first on.
func (s *server) lines(restpoint string) int64 {
	s.t.Helper()
	disks, err := s.m.Restore(restpoint)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	img := filepath.Join(dir, "img")
	if err := os.WriteFile(img, disks[0].Data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	// As a mount does: files that were open and had no name any more are taken off. What else is wrong fails.
	if err := exec.Command("e2fsck", "-p", img).Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			s.t.Fatalf("check the file system: %v", err)
		}
	}
	sh(s.t, "e2fsck", "-fn", img)
	text := sh(s.t, "debugfs", "-R", "cat lines", img)
	n := int64(0)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "debugfs") || line == "" {
			continue
		}
		if n++; line != fmt.Sprintf("%09d", n) {
			s.t.Fatalf("line %d is %q", n, line)
		}
	}
	return n
}

// TestHeldFreeze: a server whose state directory is on its frozen disk is held for a while. No write is acknowledged that the restpoint does not have, and when it is
// released replication goes on from there.
func TestHeldFreeze(t *testing.T) {
	m := newMaster(t)
	hooks := newServices(t, "")
	s := newServer(t, m, hooks.dir)
	s.start()
	s.waitRestpoint(1)
	m.hold(&wire.Hold{ID: "L", Timeout: wire.Duration(time.Hour)})
	r := m.heard(wire.HoldFrozen)
	before := s.acked.Load()
	time.Sleep(3 * time.Second)
	if after := s.acked.Load(); after != before {
		t.Errorf("%d writes were acknowledged while the disk was frozen", after-before)
	}
	p, err := m.Catalog.Restpoint(t.Context(), r.Restpoint)
	if err != nil || p.Disks[0].Consistency != "application" {
		t.Errorf("%+v, %v", p, err)
	}
	if n := s.lines(r.Restpoint); n < before || n > before+1 { // one may be written and not acknowledged
		t.Errorf("the restpoint has %d lines, %d were acknowledged", n, before)
	}
	m.hold(nil)
	m.heard(wire.HoldReleased)
	s.goesOn("released")
	hooks.want("released", "1 stop", "2 stop", "2 start", "1 start")
	m.sync()
	s.waitRestpoint(m.machine().Sequence + 1)
	s.incremental("after the release")
	s.end()
}

// incremental checks that the last cycle read only what was written.
func (s *server) incremental(when string) {
	s.t.Helper()
	c := s.m.machine().Report.Cycle
	for end := time.Now().Add(patience); time.Now().Before(end) && (c == nil || c.Restpoint != s.m.machine().LastRestpoint); time.Sleep(10 * time.Millisecond) {
		c = s.m.machine().Report.Cycle
	}
	if why := strings.Join(c.Why, "; "); strings.Contains(why, "read whole") {
		s.t.Errorf("%s: %s", when, why)
	}
}

// TestHeldFreezeKilled: whatever it is at when the agent is killed, writers get on, services are started once and not before the release if they stayed stopped for it, and
// the next restpoint builds on the base that there is.
func TestHeldFreezeKilled(t *testing.T) {
	stop, start := []string{"1 stop", "2 stop"}, []string{"2 start", "1 start"}
	for name, c := range map[string]struct {
		at     func(path string) bool // where a request of the agent hangs
		state  string
		before []string // hooks when the agent has started again
		after  []string // that come with the release
	}{
		"reading":    {func(p string) bool { return p == wire.PathAgentSessions }, wire.HoldFailed, slices.Concat(stop, start), nil},
		"committing": {func(p string) bool { return strings.HasSuffix(p, "/commit") && !strings.Contains(p, "/packs/") }, wire.HoldLost, stop, start},
		"waiting":    {nil, wire.HoldLost, stop, start},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMaster(t)
			hooks := newServices(t, "")
			s := newServer(t, m, hooks.dir)
			s.start()
			s.waitRestpoint(1)
			reached, leave := make(chan struct{}, 100), make(chan struct{})
			if c.at != nil {
				m.hooks(func(path string) bool {
					if c.at(path) {
						reached <- struct{}{}
						<-leave
						return false
					}
					return true
				}, nil)
			}
			m.hold(&wire.Hold{ID: "L"})
			if c.at != nil {
				<-reached
			} else {
				m.heard(wire.HoldFrozen)
			}
			s.kill()
			m.hooks(nil, nil)
			close(leave)
			s.start()
			m.heard(c.state)
			hooks.want("started again", c.before...)
			sequence := m.machine().Sequence
			m.hold(nil)
			m.heard(wire.HoldReleased)
			hooks.want("released", append(c.before, c.after...)...)
			m.sync()
			s.waitRestpoint(sequence + 1)
			s.incremental("the next cycle")
			s.lines(m.machine().LastRestpoint)
			s.end()
		})
	}
}
