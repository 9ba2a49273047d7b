package lvm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Runner runs a program and returns its standard output; an error has what it said. kill: it may be killed when ctx ends; else it is
// only asked to end, and waited for.
type Runner func(ctx context.Context, kill bool, name string, args ...string) ([]byte, error)

// How a program is ended.
const (
	reads   = true
	changes = false
)

// maxOutput bounds what is kept of what a program says.
const maxOutput = 8 << 20

// readLimit bounds programs that only look.
const readLimit = 2 * time.Minute

func (l *LVM) run(ctx context.Context, kill bool, name string, args ...string) ([]byte, error) {
	if kill {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readLimit)
		defer cancel()
	}
	run := l.Run
	if run == nil {
		run = system
	}
	return run(ctx, kill, name, args...)
}

func system(ctx context.Context, kill bool, name string, args ...string) ([]byte, error) {
	path, err := find(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the agent's terminal is not for it
	if !kill {
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // lvm heeds it where it is safe
	} else {
		cmd.WaitDelay = time.Second
	}
	var out, said bounded
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args[:min(1, len(args))]...), " "), err, said.line())
	}
	if out.lost {
		return nil, fmt.Errorf("%s says more than %d MiB", name, maxOutput>>20)
	}
	return out.Bytes(), nil
}

// find looks where administrators' programs are, whatever the agent's PATH.
func find(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not there: install lvm2", name)
}

// bounded keeps the first maxOutput bytes.
type bounded struct {
	bytes.Buffer
	lost bool
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), maxOutput-b.Len())
	b.lost = b.lost || keep < len(p)
	b.Buffer.Write(p[:keep])
	return len(p), nil
}

// line is what a program complained of, on one line of moderate length.
func (b *bounded) line() string {
	text := strings.Join(strings.Fields(b.String()), " ")
	return text[:min(len(text), 500)]
}
