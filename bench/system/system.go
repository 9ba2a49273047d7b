// Package system runs the real programs for benchmarks: a master with its S3 server, and an agent, each a process whose
// CPU seconds and memory are its own, driven by the commands that users type. No hydrator runs, so nothing but the cycle
// that is measured uses the machine.
//
// One goroutine uses a System.
package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/wire"
)

// machine is the name that the agent enrols under.
const machine = "bench"

// readyLimit is how long a program may take until it is ready.
const readyLimit = 2 * time.Minute

// System is a running installation. Close it.
type System struct {
	bin, dir string
	flags    []string // of the agent
	id       string   // of the machine
	env      []string // for commands
	master   *process
	agent    *process
}

// Options change an installation. The zero value uses the master's own S3 server.
type Options struct {
	Staging   string   // --staging of the master
	Env       []string // of the master, beside this process's
	ChunkSize int      // bytes; 0: by disk size
	Agent     []string // further flags of the agent
}

// Start makes an installation in the folder dir with the programs in bin, and an agent of disk that waits to be asked.
func Start(ctx context.Context, bin, dir, disk string, o Options) (_ *System, err error) {
	s := &System{bin: bin, dir: dir, flags: o.Agent}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%w%s", err, s.logs()), s.Close())
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start system: %w", err)
	}
	if err := s.startMaster(ctx, o); err != nil {
		return nil, err
	}
	if err := s.enrol(ctx, o); err != nil {
		return nil, err
	}
	return s, s.startAgent(ctx, disk)
}

// StartMaster makes an installation without an agent: whoever benchmarks brings agents of his own.
func StartMaster(ctx context.Context, bin, dir string, o Options) (_ *System, err error) {
	s := &System{bin: bin, dir: dir}
	if err = os.MkdirAll(dir, 0o700); err == nil {
		err = s.startMaster(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start master: %w\nend of its log:\n%s", err, s.master.tail()), s.Close())
	}
	return s, nil
}

// RestartMaster ends the master and starts it again on what it has, and returns when it is ready.
func (s *System) RestartMaster(ctx context.Context, o Options) error {
	s.master.stop()
	if err := os.Remove(filepath.Join(s.dir, "master", "env")); err != nil {
		return fmt.Errorf("start master again: %w", err)
	}
	return s.startMaster(ctx, o)
}

// MasterUsage is what the master's process has used, without the S3 server that it started.
func (s *System) MasterUsage() (measure.Usage, error) { return measure.Of(s.master.pid()) }

func (s *System) startMaster(ctx context.Context, o Options) error {
	data := filepath.Join(s.dir, "master")
	args := []string{"master", "--data-dir", data, "--listen", "127.0.0.1:0"}
	if o.Staging != "" {
		args = append(args, "--staging", o.Staging)
	}
	var err error
	if s.master, err = start(ctx, s.dir+"/master.log", o.Env, filepath.Join(s.bin, "openmigrate"), args...); err != nil {
		return err
	}
	return eventually(ctx, s.master, "the master is ready", func() error {
		b, err := os.ReadFile(filepath.Join(data, "env"))
		if err == nil {
			s.env = parseEnv(string(b))
		}
		return err
	})
}

// parseEnv reads the shell file that the master writes.
func parseEnv(text string) []string {
	var env []string
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "="); ok {
			env = append(env, name+"="+strings.Trim(value, `'"`))
		}
	}
	return env
}

// enrol makes the machine with a small disk and tells its agent to make restpoints only when asked, so that the cycle that is
// measured begins when it is asked for.
func (s *System) enrol(ctx context.Context, o Options) error {
	small := filepath.Join(s.dir, "enrol.img")
	if err := os.WriteFile(small, make([]byte, 1<<20), 0o600); err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	p, err := s.runAgent(ctx, small)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := eventually(ctx, p, "the agent has enrolled", func() error {
		m, err := s.Show(ctx)
		if err == nil && m.Restpoints == 0 {
			err = errors.New("it has made no restpoint yet")
		}
		s.id = m.ID
		return err
	}); err != nil {
		return err
	}
	policy := []string{"--interval", "-1s"}
	if o.ChunkSize > 0 {
		policy = append(policy, "--chunk-size", strconv.Itoa(o.ChunkSize))
	}
	return s.set(ctx, policy...)
}

func (s *System) set(ctx context.Context, policy ...string) error {
	var m wire.MachineInfo
	_, err := s.cli(ctx, &m, append([]string{"machines", "set", machine}, policy...)...)
	return err
}

// Schedule makes the agent begin a restpoint every interval; a negative one makes it wait to be asked again.
func (s *System) Schedule(ctx context.Context, interval time.Duration) error {
	return s.set(ctx, "--interval", interval.String())
}

func (s *System) runAgent(ctx context.Context, disk string) (*process, error) {
	args := append([]string{"run", "--name", machine, "--state-dir", filepath.Join(s.dir, "agent"), "--disk", disk}, s.flags...)
	return start(ctx, s.dir+"/agent.log", s.env, filepath.Join(s.bin, "openmigrate-agent"), args...)
}

func (s *System) startAgent(ctx context.Context, disk string) (err error) {
	m, err := s.Show(ctx)
	if err != nil {
		return err
	}
	if s.agent, err = s.runAgent(ctx, disk); err != nil {
		return err
	}
	return eventually(ctx, s.agent, "the agent waits to be asked", func() error {
		now, err := s.Show(ctx)
		if err == nil && (!now.LastSeen.After(m.LastSeen) || now.Report == nil || now.Report.State != "idle") {
			err = fmt.Errorf("it says %+v", now.Report)
		}
		return err
	})
}

// Show is what `openmigrate machines show` says.
func (s *System) Show(ctx context.Context) (m wire.MachineInfo, err error) {
	_, err = s.cli(ctx, &m, "machines", "show", machine)
	return m, err
}

// Close ends all programs, and the tracking that the agent left to the kernel.
func (s *System) Close() error {
	s.agent.stop()
	s.master.stop()
	if s.id == "" || os.Geteuid() != 0 { // only root can track
		return nil
	}
	return ebpf.Remove(ebpf.Options{Instance: s.id})
}

func (s *System) logs() string {
	return "\nend of the master's log:\n" + s.master.tail() + "\nend of the agent's log:\n" + s.agent.tail()
}

// eventually asks again and again until try succeeds or p, which it waits for, has ended.
func eventually(ctx context.Context, p *process, what string, try func() error) error {
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("wait until %s: it ended:\n%s", what, p.tail())
		case <-limit.C:
			return fmt.Errorf("wait until %s: not within %v: %w", what, readyLimit, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
