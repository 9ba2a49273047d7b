package agent

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// TestCycleReport: all that is known of a cycle reaches the master, within limits.
func TestCycleReport(t *testing.T) {
	r := &cycle.Result{Committed: wire.Committed{Restpoint: "r"}, Passes: 3, Frozen: 40 * time.Millisecond, Backlog: 12, Unconverged: true,
		Disks: []cycle.DiskResult{
			{ID: "a", Name: "sda", Tracker: "ebpf", Consistency: format.Fuzzy, ConsistencyWhy: "too busy"},
			{ID: "b", Name: "sdb", Tracker: "scan", TrackerWhy: "too old", Consistency: format.Fuzzy, ConsistencyWhy: "too busy"},
		}}
	for i := range wire.MaxWhy + 1 {
		r.Why = append(r.Why, fmt.Sprint(i))
	}
	want := &wire.Report{State: "idle", Message: "later",
		Cycle: &wire.CycleReport{Restpoint: "r", Duration: wire.Duration(time.Second), Passes: 3, Frozen: wire.Duration(40 * time.Millisecond), Backlog: 12,
			Unconverged: true, Why: r.Why[:wire.MaxWhy]},
		Disks: []wire.DiskReport{
			{ID: "a", Name: "sda", Tracker: "ebpf", Consistency: "fuzzy", ConsistencyWhy: "too busy"},
			{ID: "b", Name: "sdb", Tracker: "scan", TrackerWhy: "too old", Consistency: "fuzzy", ConsistencyWhy: "too busy"},
		}}
	if got := cycleReport(r, time.Second, plan{state: "idle", message: "later"}); !reflect.DeepEqual(got, want) {
		t.Errorf("report %+v of %+v", got, got.Cycle)
	}
	if got := cycleReport(r, time.Second, plan{run: true}); got.State != "replicating" {
		t.Errorf("with another cycle due it is %s", got.State)
	}

	name := t.TempDir()
	dir, err := state.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	f := newStatusFile(dir, clock.NewFake(noon), new(gate))
	f.trackers(append(r.Disks, r.Disks...))
	if s, err := ReadStatus(name); err != nil || s.Tracker != "ebpf, scan" {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := dir.Close(); err != nil {
		t.Error(err)
	}
}
