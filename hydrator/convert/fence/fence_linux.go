package fence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultTimeout = 10 * time.Minute
	defaultOutput  = 64 << 10
)

// Run runs a program and returns what it printed last. It must be called by the thread that sees the mounts. It needs
// root.
func Run(ctx context.Context, c Command) (string, error) {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Output == 0 {
		c.Output = defaultOutput
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, ErrTimeout)
	defer cancel()
	env := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C",
		"TMPDIR=/tmp", "DEBIAN_FRONTEND=noninteractive"}, c.Env...)
	b, err := json.Marshal(setup{c.Root, c.Args, env, c.Shared})
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{processName}
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(b)
	out := &tail{limit: c.Output}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP,
		Pdeathsig:  unix.SIGKILL,
		Setsid:     true,
	}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return string(out.b), fmt.Errorf("run %s: %w", c.Args[0], context.Cause(ctx))
	case errors.As(err, &exit):
		return string(out.b), &ExitError{c.Args[0], exit.ExitCode(), string(out.b)}
	case err != nil:
		return string(out.b), fmt.Errorf("run %s: %w", c.Args[0], err)
	}
	return string(out.b), nil
}
