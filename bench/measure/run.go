package measure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Run is one program from start to end.
type Run struct {
	Wall time.Duration `json:"wall"`
	Usage
}

// Command runs cmd to its end and measures it with all children that it waited for. Standard error is kept for the error of a
// program that fails, unless cmd has one set; standard output is returned unless cmd has one set.
func Command(cmd *exec.Cmd) (Run, []byte, error) {
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	began := time.Now()
	err := cmd.Run()
	run := Run{Wall: time.Since(began)}
	if cmd.ProcessState != nil {
		run.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			run.Peak = u.Maxrss << 10 // KiB on Linux
		}
	}
	if err != nil {
		return run, stdout.Bytes(), fmt.Errorf("run %s: %w%s", filepath.Base(cmd.Path), err, lastLines(stderr.String(), 8))
	}
	return run, stdout.Bytes(), nil
}

// lastLines shows the end of what a program said.
func lastLines(s string, n int) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	lines := strings.Split(s, "\n")
	return "\n" + strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Tool prepares a program by name. Those of the system that are not in everybody's PATH are found, too. When ctx ends the
// program is asked to stop, and killed if it does not.
func Tool(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err == nil {
			break
		}
		if p, e := exec.LookPath(filepath.Join(dir, name)); e == nil {
			path, err = p, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("find %s (scripts/setup bench installs what is missing): %w", name, errors.Unwrap(err))
	}
	return Stoppable(exec.CommandContext(ctx, path, args...)), nil
}

// Stoppable makes the end of cmd's context a polite request with a time limit.
func Stoppable(cmd *exec.Cmd) *exec.Cmd {
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// Alternately runs two things, the second one first in every other round, so that neither always has what comes from being first.
func Alternately(round int, first, second func() error) error {
	if round%2 == 1 {
		first, second = second, first
	}
	if err := first(); err != nil {
		return err
	}
	return second()
}
