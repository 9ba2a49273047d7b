package api

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/launch"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/wire"
)

// TestLaunchFromEndToEnd: an operator, a node and a provider in memory meet over the wire and the real engine: a test is launched, waited for, looked at and taken away,
// and a machine that does not come up says why.
func TestLaunchFromEndToEnd(t *testing.T) {
	const up = "Debian GNU/Linux 12 web-1 ttyS0\n\nweb-1 login: "
	console := make(chan string, 2) // of the machines to come
	mem := memprovider.New(&memprovider.Options{Dir: t.TempDir(), Boot: func(providers.Instance) string { return <-console }})
	var engine *launch.Service
	var moved atomic.Int64
	w := newWorldWith(t, func(w *world) Launches {
		var err error
		engine, err = launch.New(launch.Deps{Catalog: w.env.Catalog, DB: w.env.DB, Providers: map[string]providers.Provider{"here": mem}, System: "test",
			URL: w.url, CA: w.ca.Certificate().Raw, Clock: w.env.Clock, Pause: time.Millisecond, Log: slog.New(slog.DiscardHandler),
			Moved: func(launch, project, machine string) {
				if launch != "" && project != "" && machine != "" {
					moved.Add(1)
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		return engine
	})
	ctx, stop := context.WithCancel(t.Context())
	node := w.enrol(ca.KindNode, true)
	done := make(chan error, 2)
	go func() { done <- engine.Run(ctx) }()
	go func() { done <- obey(ctx, node) }()
	defer func() {
		stop()
		for range 2 {
			if err := <-done; err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}()

	agent, c := w.env.NewAgent("web-1"), w.admin()
	agent.Replicate(catalogtest.Disk{ID: "d", Data: append([]byte("root"), make([]byte, 4092)...)})
	if _, err := w.env.Catalog.Hello(t.Context(), agent.Machine.ID, wire.Hello{Generation: 1, Fingerprint: "host of web-1", Inventory: sourceInventory()}); err != nil {
		t.Fatal(err)
	}
	console <- up
	l, err := c.StartLaunch(t.Context(), wire.LaunchRequest{Kind: wire.LaunchTest, Machine: "web-1",
		Template: &wire.LaunchTemplate{Checks: []wire.LaunchCheck{{Kind: wire.CheckBoot}, {Kind: wire.CheckConsole, Text: "Debian"}, {Kind: wire.CheckScreenshot}}}})
	if err != nil {
		t.Fatal(err)
	}
	l = follow(t, c, l.ID, wire.LaunchRunning)
	if len(l.Checks) != 3 || !l.Checks[0].Passed || !l.Checks[1].Passed || l.Instance == "" || l.Took <= 0 && l.Deadline.IsZero() || !json.Valid(l.Conversion) {
		t.Errorf("it runs as %+v", l)
	}
	if moved.Load() == 0 {
		t.Error("nobody was told that it got on")
	}
	if m, err := c.Machine(t.Context(), "web-1"); err != nil || m.Life != wire.LifeTesting || !strings.Contains(m.LifeStep, l.ID) {
		t.Errorf("life %q, %q, %v", m.Life, m.LifeStep, err)
	}
	if b, err := c.LaunchConsole(t.Context(), l.ID); err != nil || string(b) != up {
		t.Errorf("console %q, %v", b, err)
	}
	if b, err := c.LaunchScreenshot(t.Context(), l.ID); err != nil || !bytes.HasPrefix(b, pngSignature) {
		t.Errorf("screenshot of %d bytes, %v", len(b), err)
	}
	_, err = c.FinalizeLaunch(t.Context(), l.ID)
	wantCode(t, "finalize a test", err, wire.CodeConflict)
	if _, err := c.RevertLaunch(t.Context(), l.ID); err != nil {
		t.Fatal(err)
	}
	follow(t, c, l.ID, wire.LaunchReverted)
	if m, err := c.Machine(t.Context(), "web-1"); err != nil || m.Life != wire.LifeReadyForCutover || m.LastTest == nil || m.LastTest.Launch != l.ID || !m.LastTest.Passed || m.LastTest.Time.IsZero() {
		t.Errorf("life after the test %q, %+v, %v", m.Life, m.LastTest, err)
	} else if p, err := c.Restpoint(t.Context(), m.LastRestpoint); err != nil || m.LastConsistency != p.Consistency || p.Consistency == "" {
		t.Errorf("its last restpoint is %q, that says %q; %v", m.LastConsistency, p.Consistency, err)
	}
	if left, err := mem.List(t.Context(), "test"); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}

	console <- "Gave up waiting for root file system device.\nALERT!  /dev/sda1 does not exist.  Dropping to a shell!\n(initramfs) "
	if l, err = c.StartLaunch(t.Context(), wire.LaunchRequest{Kind: wire.LaunchTest, Machine: "web-1"}); err != nil {
		t.Fatal(err)
	}
	l = follow(t, c, l.ID, wire.LaunchFailed)
	if f := l.Failure; f == nil || f.Step != wire.LaunchChecking || !strings.Contains(f.Cause, "/dev/sda1") || !strings.Contains(f.Console, "ALERT!") {
		t.Errorf("it failed with %+v", f)
	}
	if m, err := c.Machine(t.Context(), "web-1"); err != nil || m.LastTest == nil || m.LastTest.Launch != l.ID || m.LastTest.Passed {
		t.Errorf("the last test is %+v, %v", m.LastTest, err)
	}
	if b, err := c.LaunchConsole(t.Context(), l.ID); err != nil || !bytes.Contains(b, []byte("ALERT!")) {
		t.Errorf("console of a machine that is gone: %q, %v", b, err)
	}
	if orphans, err := c.Orphans(t.Context(), "here"); err != nil || len(orphans) != 0 {
		t.Errorf("orphans %v, %v", orphans, err)
	}
}

// follow waits for a state.
func follow(t *testing.T, c *apiclient.Client, id, state string) wire.LaunchInfo {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		l, err := c.Launch(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if l.State == state {
			return l
		}
		ends := []string{wire.LaunchFailed, wire.LaunchReverted, wire.LaunchFinalized}
		if slices.Contains(ends, l.State) || time.Now().After(deadline) {
			t.Fatalf("launch is %s, not %s: %+v", l.State, state, l)
		}
	}
}

// obey does the jobs of launches as a node does, but for the work.
func obey(ctx context.Context, node *actor) error {
	kinds := []string{wire.JobInspect, wire.JobMeasure, wire.JobHydrate, wire.JobConvert}
	for ctx.Err() == nil {
		job, err := node.LeaseJob(ctx, &wire.LeaseRequest{Kinds: kinds, Providers: []string{"here"}, Wait: wire.Duration(20 * time.Millisecond)})
		if err != nil {
			return err
		}
		if job == nil {
			continue
		}
		if err := node.CompleteJob(ctx, job.ID, &wire.JobResult{Report: json.RawMessage(`{}`)}); err != nil {
			return err
		}
	}
	return nil
}

// sourceInventory is of a small server.
func sourceInventory() *wire.Inventory {
	return &wire.Inventory{
		Version: 1, Hostname: "web-1", Kernel: wire.Kernel{Arch: "amd64"}, CPU: wire.CPU{Count: 1}, MemoryBytes: 512 << 20, Firmware: wire.Firmware{Type: "bios"},
		Devices: []wire.BlockDevice{{ID: "d", Name: "sda", Type: "disk", Table: &wire.PartitionTable{Scheme: "mbr",
			Partitions: []wire.Partition{{Number: 1, Bootable: true, Type: "83", Content: &wire.Content{Type: "ext4"}}}}}},
		Filesystems: []wire.Filesystem{{Device: "sda1", Mountpoint: "/", Type: "ext4"}},
	}
}

var _ launch.Catalog = (*catalog.Catalog)(nil)
