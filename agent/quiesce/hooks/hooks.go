// Package hooks runs a directory of executables before a freeze and after a thaw, by the convention of the QEMU
// guest agent's fsfreeze-hook.d: each is called with one argument, freeze (in the order of names) or thaw (in reverse).
//
// The invariant: each hook whose freeze was started is called with thaw. A Set may be used by one caller at a time.
package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	defaultTimeout = 30 * time.Second
	maxOutput      = 4 << 10
	maxHooks       = 64
)

// Set is a directory of hooks.
type Set struct {
	Dir     string
	Timeout time.Duration // for each call; 0 is 30 s

	// Note, if not nil, is told before a hook is called with freeze and after it was called with thaw.
	Note func(path, verb string)
}

// Result is one call of one hook.
type Result struct {
	Path, Verb string
	Took       time.Duration
	Output     string // the first 4 KiB of what it wrote
	Err        error
}

// Freeze calls every hook with freeze and stops at the first that fails. The results are what Thaw must be given,
// also after an error.
func (s Set) Freeze(ctx context.Context) ([]Result, error) {
	paths, err := s.List()
	if err != nil {
		return nil, err
	}
	var ran []Result
	for _, p := range paths {
		s.note(p, "freeze")
		r := s.Call(ctx, p, "freeze")
		ran = append(ran, r)
		if r.Err != nil {
			return ran, r.Err
		}
	}
	return ran, nil
}

// Thaw calls the hooks of ran in reverse, all of them, whatever fails.
func (s Set) Thaw(ctx context.Context, ran []Result) ([]Result, error) {
	var out []Result
	var errs []error
	for i := len(ran) - 1; i >= 0; i-- {
		r := s.Call(ctx, ran[i].Path, "thaw")
		s.note(r.Path, "thaw")
		out = append(out, r)
		errs = append(errs, r.Err)
	}
	return out, errors.Join(errs...)
}

func (s Set) note(path, verb string) {
	if s.Note != nil {
		s.Note(path, verb)
	}
}

// List returns the executables in order of names, and refuses those that others than root can change.
func (s Set) List() ([]string, error) {
	if err := trusted(s.Dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("list hooks: %w", err)
	}
	var paths []string
	for _, e := range entries {
		p := filepath.Join(s.Dir, e.Name())
		fi, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("list hooks: %w", err)
		}
		if !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
			continue
		}
		if err := trusted(p); err != nil {
			return nil, err
		}
		if paths = append(paths, p); len(paths) > maxHooks {
			return nil, fmt.Errorf("list hooks: more than %d in %s", maxHooks, s.Dir)
		}
	}
	return paths, nil
}

func trusted(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("check hook: %w", err)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 {
		return fmt.Errorf("refuse hook %s: it is not owned by root; chown it", path)
	}
	if fi.Mode()&0o022 != 0 {
		return fmt.Errorf("refuse hook %s: others than root can write it; chmod go-w it", path)
	}
	return nil
}

// Call calls one hook of List.
func (s Set) Call(ctx context.Context, path, verb string) Result {
	limit := s.Timeout
	if limit <= 0 {
		limit = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out := &bounded{}
	cmd := exec.CommandContext(ctx, path, verb)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OPENMIGRATE_") }) // tokens are not for them
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	start := time.Now()
	err := cmd.Run()
	r := Result{Path: path, Verb: verb, Took: time.Since(start), Output: out.buf.String()}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // a background child keeps the output open: allowed, a session that holds a lock does so
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("not done within its limit of %v: %w", limit, ctx.Err())
	}
	if err != nil {
		r.Err = fmt.Errorf("hook %s %s: %w", path, verb, err)
	}
	return r
}

// bounded keeps the first maxOutput bytes and takes the rest without an error, so that the writer does not fail.
type bounded struct{ buf bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.buf.Write(p[:min(len(p), maxOutput-b.buf.Len())])
	return len(p), nil
}
