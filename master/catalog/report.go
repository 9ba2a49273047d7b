package catalog

import "github.com/openmigrate/openmigrate/wire"

// takeReport keeps what an agent says of its disks and cycles until it says otherwise.
func (m *Machine) takeReport(r *wire.Report) {
	was := m.Report
	m.Report = wire.Report{State: cut(r.State), Message: cut(r.Message), Disks: was.Disks, Cycle: was.Cycle}
	m.takeHold(r.Hold)
	if p := r.Progress; p != nil {
		kept := *p
		kept.Phase, kept.Message = cut(p.Phase), cut(p.Message)
		m.Report.Progress = &kept
	}
	if r.State == "error" {
		m.Failure = cut(r.Message)
	}
	if len(r.Disks) > 0 {
		m.Report.Disks = nil
		for _, d := range r.Disks[:min(len(r.Disks), wire.MaxDisks)] {
			m.Report.Disks = append(m.Report.Disks, wire.DiskReport{ID: cutTo(d.ID, wire.MaxNameLength), Name: cutTo(d.Name, wire.MaxNameLength),
				Tracker: cutTo(d.Tracker, maxWord), TrackerWhy: cutTo(d.TrackerWhy, maxReason),
				Consistency: cutTo(d.Consistency, maxWord), ConsistencyWhy: cutTo(d.ConsistencyWhy, maxReason)})
		}
	}
	if r.Cycle == nil {
		return
	}
	c := *r.Cycle
	c.Restpoint = cutTo(c.Restpoint, wire.MaxNameLength)
	c.Duration, c.Frozen = sane(c.Duration), sane(c.Frozen)
	c.Passes, c.Backlog = min(max(c.Passes, 0), maxPasses), min(max(c.Backlog, 0), maxBytes)
	c.Why = nil
	for _, why := range r.Cycle.Why[:min(len(r.Cycle.Why), wire.MaxWhy)] {
		c.Why = append(c.Why, cutTo(why, maxReason))
	}
	m.Report.Cycle = &c
	switch {
	case !c.Unconverged:
		m.Unconverged = 0
	case was.Cycle == nil || was.Cycle.Restpoint != c.Restpoint:
		m.Unconverged++
	}
}

// Limits of a report's texts, in bytes, and of its passes.
const (
	maxReason = 300
	maxWord   = 32
	maxPasses = 1000
)

func sane(d wire.Duration) wire.Duration { return min(max(d, 0), wire.Duration(maxDuration)) }
