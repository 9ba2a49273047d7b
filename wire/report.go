package wire

import "time"

// MaxWhy is how many reasons a CycleReport may give; the master drops those after it.
const MaxWhy = 16

// Report is an agent's free-form news: between sessions, and after each cycle that made a restpoint.
type Report struct {
	State    string       `json:"state"` // idle, waiting, replicating, error
	Message  string       `json:"message,omitempty"`
	Events   []Event      `json:"events,omitempty"`
	Progress *Progress    `json:"progress,omitempty"`
	Disks    []DiskReport `json:"disks,omitempty"` // empty: as it was said last
	Cycle    *CycleReport `json:"cycle,omitempty"` // the last that made a restpoint; nil: as it was said last
	Hold     *HoldReport  `json:"hold,omitempty"`  // nil: as it was said last
}

// DiskReport says by which means a disk is replicated, and why not by better ones.
type DiskReport struct {
	ID             string `json:"id"`
	Name           string `json:"name"`
	Tracker        string `json:"tracker"`                   // ebpf or scan
	TrackerWhy     string `json:"tracker_why,omitempty"`     // why not a better one; empty: there is none
	Consistency    string `json:"consistency"`               // of the last restpoint: fuzzy, crash, filesystem, application
	ConsistencyWhy string `json:"consistency_why,omitempty"` // why not a stronger one; empty: nothing kept it
}

// CycleReport says how a restpoint was made.
type CycleReport struct {
	Restpoint   string   `json:"restpoint"`
	Duration    Duration `json:"duration"`
	Passes      int      `json:"passes"`                // readings of what was written meanwhile, with the first
	Frozen      Duration `json:"frozen"`                // how long writers were kept waiting
	Backlog     int64    `json:"backlog"`               // bytes that were written since the base when it began
	Unconverged bool     `json:"unconverged,omitempty"` // disks were written faster than read, so it is of no one instant
	Why         []string `json:"why,omitempty"`         // what kept it from being better or cheaper, for people
}

// Event is something that the operator should see.
type Event struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"` // info, warning, error
	Code    string    `json:"code"`  // stable: read-error, disk-vanished, disk-shrunk, snapshot-lost, …
	Message string    `json:"message"`
	Disk    string    `json:"disk,omitempty"`
	Offset  *int64    `json:"offset,omitempty"`
}
