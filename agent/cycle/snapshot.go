package cycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Snapshot makes all disks of the cycle readable as they are at one instant, in place of passes and a freeze. It is asked for when every disk is to be
// read whole. ErrNotFrozen: there is no way, and the disks are read as they are.
type Snapshot func(ctx context.Context) (*Snapshots, error)

// Snapshots are disks that nobody writes to.
type Snapshots struct {
	Frozen
	Readers map[string]source.Reader      // by disk id
	Each    map[string]format.Consistency // of each disk for itself, by id: not weaker than Frozen.Consistency
	Time    time.Time                     // the instant
	Note    string                        // what else the operator should know; may be empty
	Check   func(context.Context) error   // after the last read: was all of it of that instant?
	Close   func()                        // gives the snapshots up, and closes the readers
}

// snapshot puts snapshots in the place of the disks. It returns what gives them up, after the last read.
func (r *run) snapshot(ctx context.Context) (done func(), err error) {
	none := func() {}
	if r.conf.Snapshot == nil {
		return none, nil
	}
	for _, d := range r.disks {
		if !d.scan {
			return none, nil
		}
	}
	r.phase.Store("taking snapshots")
	s, err := r.conf.Snapshot(ctx)
	r.phase.Store("reading")
	switch {
	case errors.Is(err, ErrNotFrozen) && ctx.Err() == nil:
		r.unfrozen = err.Error()
		return none, nil
	case err != nil:
		return none, fmt.Errorf("take snapshots: %w", err)
	}
	for _, d := range r.disks {
		reader := s.Readers[d.src.ID()]
		if reader == nil || reader.Size() != d.layout.Size {
			s.Close()
			return none, fmt.Errorf("%s: its size changed while its snapshot was taken", d.src.Name())
		}
	}
	for _, d := range r.disks {
		_ = d.reader.Close() // nothing was read from it
		d.reader = s.Readers[d.src.ID()]
		d.whole = d.reader
	}
	r.snaps = s
	return s.Close, nil
}

// settleSnapshot takes the instant of the snapshots for that of the restpoint.
func (r *run) settleSnapshot() {
	r.frozen, r.instant = r.snaps.Frozen, r.snaps.Time
	if r.snaps.Note != "" {
		r.note("%s", r.snaps.Note)
	}
	if r.frozen.Why != "" {
		r.note("the restpoint is %s: %s", r.frozen.Consistency, r.frozen.Why)
	}
}

// checkSnapshot fails unless all that was read was of the instant.
func (r *run) checkSnapshot(ctx context.Context) error {
	if r.snaps == nil {
		return nil
	}
	return r.snaps.Check(ctx)
}

// consistency is that of one disk for itself.
func (r *run) consistency(d *disk) format.Consistency {
	if r.snaps != nil {
		if c := r.snaps.Each[d.src.ID()]; c != "" {
			return c
		}
	}
	return r.frozen.Consistency
}
