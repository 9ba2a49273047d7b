package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/providers"
)

func TestAdoption(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("a folder whose name is longer than a socket's address may be ", 2), "with,commas=and \"quotes\" [a]")
	p := open(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, providers.ErrConflict) {
		t.Errorf("a second owner: %v, want ErrConflict", err)
	}
	forward := func(s *providers.InstanceSpec) {
		s.NICs = []providers.NIC{{Network: Isolated, Forward: []uint16{22, 80}}}
	}
	i := boot(t, p, "vm", forward, volumeWith(t, p, "v", sector("up\n", obey)))
	awaitConsole(t, p, i.ID, "up\n", 1)
	pids := processes(t, dir)
	if len(pids) != 1 {
		t.Fatalf("processes %v", pids)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	next := open(t, Options{Dir: dir})
	got := await(t, next, i.ID, providers.StateRunning)
	if !slices.Equal(processes(t, dir), pids) {
		t.Errorf("processes %v, want %v", processes(t, dir), pids)
	}
	if len(got.NICs) != 1 || !slices.Equal(got.NICs[0].Forwards, i.NICs[0].Forwards) || len(got.NICs[0].Forwards) != 2 {
		t.Errorf("network cards %+v, want %+v", got.NICs, i.NICs)
	}
	awaitConsole(t, next, i.ID, "up\n", 1)
	if b, err := next.Screenshot(t.Context(), i.ID); err != nil || !bytes.HasPrefix(b, []byte("\x89PNG")) {
		t.Errorf("screenshot: %v", err)
	}
	if err := next.StopInstance(t.Context(), i.ID, false); err != nil {
		t.Fatal(err)
	}
	await(t, next, i.ID, providers.StateStopped)
}

// A machine whose process died while nobody looked is stopped, with a reason, and starts again when it is told to.
func TestDiedWhileNobodyLooked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := open(t, Options{Dir: dir})
	i := boot(t, p, "vm", nil, volumeWith(t, p, "v", sector("up\n", halt)))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	endMachines(t, dir)
	next := open(t, Options{Dir: dir})
	got := await(t, next, i.ID, providers.StateStopped)
	if !strings.Contains(got.Reason, "process ended") {
		t.Errorf("reason is %q", got.Reason)
	}
	if err := next.StartInstance(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	await(t, next, i.ID, providers.StateRunning)
	endMachines(t, dir)
	if got := await(t, next, i.ID, providers.StateStopped); !strings.Contains(got.Reason, "process ended") {
		t.Errorf("reason is %q", got.Reason)
	}
}

// editRecord changes the record of an instance that nobody has open.
func editRecord(t *testing.T, dir, id string, change func(*instanceRecord)) {
	t.Helper()
	name := filepath.Join(dir, instancesDir, id, recordName)
	b, err := os.ReadFile(name)
	var r instanceRecord
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil {
		change(&r)
		b, err = json.Marshal(r)
	}
	if err == nil {
		err = durable.WriteFile(name, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A pid that another process has by now is neither taken for the machine nor killed in its place.
func TestRecycledPID(t *testing.T) {
	for name, c := range map[string]struct {
		runs bool // the machine's own process
	}{"machine gone": {false}, "machine runs": {true}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := open(t, Options{Dir: dir})
			i := boot(t, p, "vm", nil, volumeWith(t, p, "v", sector("up\n", halt)))
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if !c.runs {
				endMachines(t, dir)
			}
			// It even has the machine's UUID on its command line, but not its start time.
			var r instanceRecord
			editRecord(t, dir, i.ID, func(x *instanceRecord) { r = *x })
			other := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exec sleep 600", "-uuid", r.UUID, "end")
			if err := other.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = other.Process.Kill()
				_ = other.Wait()
			}()
			editRecord(t, dir, i.ID, func(x *instanceRecord) { x.Run.PID = other.Process.Pid })
			if err := os.Remove(filepath.Join(dir, instancesDir, i.ID, "pid")); err != nil && c.runs {
				t.Fatal(err)
			}
			next := open(t, Options{Dir: dir})
			if err := next.TerminateInstance(t.Context(), i.ID); err != nil {
				t.Fatal(err)
			}
			await(t, next, i.ID, providers.StateTerminated)
			if left := processes(t, dir); len(left) > 0 {
				t.Errorf("processes %v are left", left)
			}
			if err := other.Process.Signal(unix.Signal(0)); err != nil {
				t.Errorf("the other process: %v", err)
			}
		})
	}
}

// A QEMU that answers nothing is still stopped and removed.
func TestHungQEMU(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := open(t, Options{Dir: dir})
	i := boot(t, p, "vm", func(s *providers.InstanceSpec) { s.Disks[0].Delete = true }, volumeWith(t, p, "v", sector("up\n", halt)))
	for _, pid := range processes(t, dir) {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := p.Instance(t.Context(), i.ID); err != nil || !strings.Contains(got.Reason, "does not answer") {
		t.Errorf("reason is %q, %v", got.Reason, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Console(ctx, i.ID); !errors.Is(err, providers.ErrTryAgain) {
		t.Errorf("console: %v, want ErrTryAgain", err)
	}
	if err := p.TerminateInstance(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	await(t, p, i.ID, providers.StateTerminated)
	if left := processes(t, dir); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}
