package main

import (
	"bytes"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// TestPrintMachine: an operator reads how far the copy is behind, what to do, and for each disk its tracker, its consistency and why
// they are not better. What an agent wrote cannot move the cursor.
func TestPrintMachine(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	instant, eta := now.Add(-90*time.Second), now.Add(30*time.Second)
	x := &wire.MachineInfo{Name: "web1", ID: "id1", Replication: "lagging", Reason: "cycles take 1m0s", NextStep: "openmigrate machines set web1 --interval 2m",
		Life: wire.LifeReadyToTest, LifeStep: "openmigrate launch test web1",
		LastRestpoint: "r1", LastTime: &instant, LastSeen: now, Progress: &wire.Progress{Total: 4, Done: 1},
		RPO: wire.RPOInfo{Instant: &instant, Now: wire.Duration(90 * time.Second), Predicted: wire.Duration(2 * time.Minute), Target: wire.Duration(30 * time.Second),
			Lag: wire.Duration(75 * time.Second), Backlog: 3 << 20, ChangeRate: 5 << 20, Throughput: 1 << 20, ETA: &eta},
		Report: &wire.Report{State: "replicating", Disks: []wire.DiskReport{
			{ID: "a", Name: "/dev/sda", Tracker: "ebpf", Consistency: "crash", ConsistencyWhy: "a file system cannot be frozen"},
			{ID: "b", Name: "/dev/sdb\x1b[2J", Tracker: "scan", TrackerWhy: "the kernel has no tracepoints", Consistency: "crash"},
		}, Cycle: &wire.CycleReport{Duration: wire.Duration(time.Minute), Passes: 3, Frozen: wire.Duration(42 * time.Millisecond), Backlog: 2 << 20,
			Why: []string{"another pass: too much was written"}}},
		Warm: &wire.WarmInfo{Provider: "qemu", State: wire.WarmApplying, Restpoint: "r0", Instant: &instant, Volumes: 2, Size: 3 << 30, Applying: "r1",
			Progress: &wire.Progress{Total: 100, Done: 45}, Problem: "no room\x1b[2J"},
		Events: []wire.Event{{Time: now, Level: "error", Code: "read-error", Message: "sector 7"}},
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 2, 8, 2, ' ', 0)
	printMachine(w, x, now)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	for _, want := range [][2]string{
		{"state", "lagging"}, {"reason", "cycles take 1m0s"}, {"next step", "openmigrate machines set web1 --interval 2m"},
		{"life", "ready-to-test"}, {"life step", "openmigrate launch test web1"},
		{"rpo", "1m30s, grows to 2m0s before the next restpoint, lags above 30s"}, {"lag", "1m15s"},
		{"backlog", "3.00 MiB, changing by 5.00 MiB a second"}, {"throughput", "1.00 MiB a second into staging"}, {"eta", "2026-03-02T12:00:30Z (in 30s)"},
		{"disk /dev/sda", "tracker ebpf, consistency crash"}, {"", "no stronger consistency: a file system cannot be frozen"},
		{"disk /dev/sdb\ufffd[2J", "tracker scan, consistency crash"}, {"", "no better tracker: the kernel has no tracepoints"},
		{"last cycle", "1m0s, passes over the disks: 3, writers kept waiting for 42ms, 2.00 MiB were written since the restpoint before"},
		{"", "restpoint r1 is being applied, 45 %"}, {"", "it does not get on: no room\ufffd[2J"},
		{"", "another pass: too much was written"}, {"2026-03-02T12:00:00Z", "error read-error: sector 7"},
	} {
		found := false
		for _, line := range lines {
			found = found || strings.HasPrefix(line, want[0]+"  ") && strings.HasSuffix(line, "  "+want[1])
		}
		if !found {
			t.Errorf("there is no line %q", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 42_400 * time.Microsecond: "42ms", 1234 * time.Millisecond: "1.2s", 61_700 * time.Millisecond: "1m2s",
	} {
		if got := short(wire.Duration(d)); got != want {
			t.Errorf("%v is shown as %s, want %s", d, got, want)
		}
	}
}
