package agent

import (
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/wire"
)

// cycleReport is what the master is told of a cycle that made a restpoint: how, and what comes next.
func cycleReport(r *cycle.Result, took time.Duration, next plan) *wire.Report {
	out := &wire.Report{State: next.state, Message: next.message, Cycle: &wire.CycleReport{
		Restpoint: r.Restpoint, Duration: wire.Duration(took), Passes: r.Passes, Frozen: wire.Duration(r.Frozen), Backlog: r.Backlog,
		Unconverged: r.Unconverged, Why: r.Why[:min(len(r.Why), wire.MaxWhy)],
	}}
	if next.run {
		out.State, out.Message = "replicating", "the next cycle is due"
	}
	for _, d := range r.Disks {
		out.Disks = append(out.Disks, wire.DiskReport{ID: d.ID, Name: d.Name, Tracker: d.Tracker, TrackerWhy: d.TrackerWhy,
			Consistency: string(d.Consistency), ConsistencyWhy: d.ConsistencyWhy})
	}
	return out
}
