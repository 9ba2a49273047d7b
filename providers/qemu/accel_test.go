package qemu

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/roottest"
)

// The bytes in accel.go are what probe.S says.
func TestProbeIsAssembled(t *testing.T) {
	if _, err := exec.LookPath("as"); err != nil {
		roottest.Lacks(t, "the assembler is needed (package binutils)")
	}
	dir := t.TempDir()
	object, binary := filepath.Join(dir, "probe.o"), filepath.Join(dir, "probe.bin")
	for _, args := range [][]string{{"as", "--64", "-o", object, "probe.S"}, {"objcopy", "-O", "binary", "-j", ".text", object, binary}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	want, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	got, err := probeImage()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the image differs from what probe.S assembles to (%d bytes): %v", len(want), err)
	}
}

// program makes a script that stands in for QEMU.
func program(t *testing.T, script string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestProbe(t *testing.T) {
	for name, c := range map[string]struct {
		qemu  string
		limit time.Duration
		want  string // in the error; empty: it succeeds
	}{
		"the real one":   {"qemu-system-x86_64", 30 * time.Second, ""},
		"hangs":          {program(t, "exec sleep 600"), 50 * time.Millisecond, "hung"},
		"fails":          {program(t, "echo no such thing >&2; exit 1"), 30 * time.Second, "no such thing"},
		"says nothing":   {program(t, "exit 0"), 30 * time.Second, "without an answer"},
		"is not there":   {"no-such-qemu", 30 * time.Second, "install"},
		"another status": {program(t, "exit 84"), 30 * time.Second, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			err := runProbe(t.Context(), &Options{Dir: t.TempDir(), QEMU: c.qemu}, "tcg", c.limit)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("probe: %v, want %q", err, c.want)
			}
		})
	}
}

// Whatever the probe finds on this host, a machine runs with it; and it is looked for once.
func TestAccelerationThatWasFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := Options{Dir: dir}
	o.defaults()
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		endMachines(t, dir)
	})
	i := boot(t, p, "vm", nil, volumeWith(t, p, "v", sector("up\n", halt)))
	awaitConsole(t, p, i.ID, "up\n", 1)
	c, err := p.Capabilities(t.Context())
	found, ok := p.accel.known()
	if err != nil || !ok || !strings.Contains(strings.Join(c.Notes, "\n"), "run with "+found.Name) {
		t.Fatalf("notes are %q, %v", c.Notes, err)
	}
	t.Logf("%s: %s", found.Name, found.Reason)

	var second accelerator
	began := time.Now()
	if again := second.find(t.Context(), &o); again != found {
		t.Errorf("the second time it is %+v, want %+v", again, found)
	}
	if took := time.Since(began); took > probeLimit/2 {
		t.Errorf("it was looked for again, for %v", took)
	}
	o.Accel = "kvm"
	var forced accelerator
	if got := forced.find(t.Context(), &o); got.Name != "kvm" {
		t.Errorf("forced to kvm, it is %+v", got)
	}
	if cmd, err := os.ReadFile(filepath.Join("/proc", pidText(t, p, i.ID), "cmdline")); err != nil || !bytes.Contains(cmd, []byte("\x00"+accelArg(found.Name)+"\x00")) {
		t.Errorf("the machine runs as %q, %v", cmd, err)
	}
}

func pidText(t *testing.T, p *Provider, id string) string {
	t.Helper()
	b, err := os.ReadFile(p.path(instancesDir, id, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
