package track

import "context"

// Scan is the tracker that knows nothing and asks for everything to be read. It is always right.
type Scan struct {
	// Why is what Status and Changed say about it: why no better tracker is used.
	Why string
}

var _ Tracker = (*Scan)(nil)

// Watch does nothing.
func (s *Scan) Watch(context.Context, []Disk) error { return nil }

// Status says that the disk is scanned.
func (s *Scan) Status(string) Status { return Status{Tracker: "scan", Why: s.Why} }

// Start begins a cycle that reads everything.
func (s *Scan) Start(context.Context) (Cycle, error) { return scanCycle{s}, nil }

// Close does nothing.
func (s *Scan) Close() error { return nil }

type scanCycle struct{ s *Scan }

func (c scanCycle) Changed(string, string) (*Marks, string) {
	if c.s.Why == "" {
		return nil, "the scan tracker reads everything"
	}
	return nil, c.s.Why
}
func (scanCycle) Flip(context.Context) (map[string]*Marks, error) { return nil, nil }
func (scanCycle) Intend(string) error                             { return nil }
func (scanCycle) Settle() error                                   { return nil }
func (scanCycle) Close()                                          {}
