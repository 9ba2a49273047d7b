package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/openmigrate/openmigrate/bench/measure"
)

// process is a program that runs until it is stopped.
type process struct {
	cmd    *exec.Cmd
	log    string
	cancel context.CancelFunc
	done   chan struct{}
}

func start(ctx context.Context, log string, env []string, program string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	defer out.Close()
	ctx, cancel := context.WithCancel(ctx)
	p := &process{cmd: measure.Stoppable(exec.CommandContext(ctx, program, args...)), log: log, cancel: cancel, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // it runs until it is stopped; who needs it notices that it is gone
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the program to end and waits until it has.
func (p *process) stop() {
	if p == nil {
		return
	}
	p.cancel()
	<-p.done
}

// tail is the end of the log.
func (p *process) tail() string {
	if p == nil {
		return ""
	}
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
