package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A machine's process is known by three things. It holds the lock of the instance's folder, inherited at its start, for as long as it lives: that
// says whether there is one, and no crash can leave it wrong. The pid is what the kernel says of the other end of the QMP socket, or what QEMU wrote
// into its file; it is believed only if that process has the instance's UUID on its command line and, once it was recorded, the same start time.

// errNoProcess: the machine has no process.
var errNoProcess = errors.New("QEMU does not run")

// environment is all that QEMU gets of ours, where secrets may stand in variables.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}

// Limits on what a process takes.
const (
	greetLimit = 60 * time.Second // from its start until it answers
	killLimit  = 30 * time.Second // until it is gone
	pause      = 20 * time.Millisecond
)

// alive reports whether an instance has a process.
func (p *Provider) alive(id string) (bool, error) {
	return locked(p.path(instancesDir, id, "lock"))
}

// spawn starts QEMU in the instance's folder, in a session of its own and as nobody's child, so that it survives this process and needs nobody to reap it.
// QEMU inherits the lock as descriptor 3 and files from 4 on.
func (p *Provider) spawn(id string, args []string, files []*os.File) error {
	folder := p.path(instancesDir, id, "")
	lock, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return hostError(err)
	}
	defer lock.Close()
	if err := takeLock(lock); err != nil {
		return fmt.Errorf("another process of the machine runs: %w", err)
	}
	for _, name := range []string{"qmp", "pid"} { // of a process that was killed
		if err := os.Remove(filepath.Join(folder, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	program, err := exec.LookPath(p.opts.QEMU)
	if err != nil {
		return fmt.Errorf("find QEMU: %w; install the package qemu-system-x86", err)
	}
	log, err := os.OpenFile(filepath.Join(folder, "qemu.log"), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return hostError(err)
	}
	defer log.Close()
	// The arguments are the shell's own, not part of its script.
	cmd := exec.CommandContext(context.WithoutCancel(p.ctx), "/bin/sh", append([]string{"-c", `"$@" &`, "sh", program}, args...)...)
	cmd.Dir = folder
	cmd.Env = environment
	cmd.Stderr = log
	cmd.ExtraFiles = append([]*os.File{lock}, files...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	return nil
}

// greet waits until the process answers, and returns its pid and start time. errNoProcess if it ends before.
func (p *Provider) greet(ctx context.Context, id string) (pid int, start uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, greetLimit)
	defer cancel()
	for {
		q, err := dialQMP(ctx, p.path(instancesDir, id, ""), "qmp")
		if err == nil {
			defer q.close()
			pid, err := q.peer()
			if err != nil {
				return 0, 0, err
			}
			start, err := startTime(pid)
			return pid, start, err
		}
		there, lockErr := p.alive(id)
		if lockErr != nil {
			return 0, 0, lockErr
		}
		if !there {
			return 0, 0, errNoProcess
		}
		if sleep(ctx, pause) != nil {
			return 0, 0, fmt.Errorf("QEMU does not answer: %w", err)
		}
	}
}

// sleep returns early, with an error, when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startTime is the moment at which a process started, in ticks since the boot: field 22 of its stat, counted from behind the name, which can hold anything.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// is reports whether a pid is the machine's process and not another one that got its number.
func (r run) is(pid int, uuid string) bool {
	start, err := startTime(pid)
	if err != nil || r.PID == pid && r.Boot == bootID() && r.Start != start {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(b, []byte("\x00-uuid\x00"+uuid+"\x00"))
}

// findPID returns the pid of a machine's process that may not answer.
func (p *Provider) findPID(id, uuid string, r run) (int, error) {
	if r.PID != 0 && r.Boot == bootID() && r.is(r.PID, uuid) {
		return r.PID, nil
	}
	if b, err := os.ReadFile(p.path(instancesDir, id, "pid")); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && r.is(pid, uuid) {
			return pid, nil
		}
	}
	// It has not written its file yet.
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && r.is(pid, uuid) {
			return pid, nil
		}
	}
	return 0, errNoProcess
}

// kill ends the machine's process, whatever it does, and waits until it is gone. No error if there is none.
func (p *Provider) kill(ctx context.Context, id, uuid string, r run) error {
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	for {
		there, err := p.alive(id)
		if err != nil || !there {
			return err
		}
		if err := p.signal(id, uuid, r); err != nil && !errors.Is(err, errNoProcess) {
			return fmt.Errorf("kill QEMU: %w", err)
		}
		if err := sleep(ctx, pause); err != nil {
			return fmt.Errorf("kill QEMU: %w: something still holds %s", err, p.path(instancesDir, id, "lock"))
		}
	}
}

// signal sends SIGKILL through a descriptor of the process, which is taken before the process is looked at: so the pid cannot change hands between.
func (p *Provider) signal(id, uuid string, r run) error {
	pid, err := p.findPID(id, uuid, r)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return errNoProcess
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if !r.is(pid, uuid) {
		return errNoProcess
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// lastWords is the end of what QEMU wrote to its log.
func (p *Provider) lastWords(id string) string {
	b, err := readTail(p.path(instancesDir, id, "qemu.log"), 1000)
	text := strings.ToValidUTF8(strings.TrimSpace(string(b)), "?")
	if err != nil || text == "" {
		return "it left no message; see the host's kernel log for memory that ran out"
	}
	return text
}

// readTail reads the last n bytes of a file.
func readTail(name string, n int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(n, info.Size()))
	got, err := f.ReadAt(b, info.Size()-int64(len(b)))
	if got == len(b) {
		err = nil
	}
	return b[:got], err
}
