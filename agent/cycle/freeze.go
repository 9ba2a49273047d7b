package cycle

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/openmigrate/openmigrate/staging/format"
)

// Freeze calls ahead when all is ready, and then inside while nothing is written to any of the machine's disks. ahead reads what can be read before, so
// that inside has little to do: writers wait for inside only. inside keeps to its context, which ends with the time that writers may be kept waiting, and
// writes to no file. all says that nothing can write meanwhile; else inside proves that nothing did. An error of either is returned, wrapped: there is no
// such instant. ErrNotFrozen: there is no way to one.
type Freeze func(ctx context.Context, ahead func(ctx context.Context) error, inside func(ctx context.Context, all bool) error) (*Frozen, error)

// Frozen says what a freeze achieved.
type Frozen struct {
	Consistency format.Consistency
	Why         string // why not a stronger one, for people
	For         time.Duration
	Freezing    time.Duration // of For: until all file systems were frozen
	Thawing     time.Duration // of For: from the end of inside
}

// ErrNotFrozen: the file systems could not be frozen, and trying again would not help. The restpoint is fuzzy.
var ErrNotFrozen = errors.New("file systems could not be frozen")

// errWritten: something that could not be frozen wrote to a disk while it was read.
var errWritten = errors.New("something wrote meanwhile that cannot be frozen")

// aheadBytes is how much is read ahead of a freeze at most: there must be room for what is written meanwhile.
const aheadBytes = frozenBytes * 3 / 4

// fewBytes is so little that another pass before the freeze would take longer to begin and end than to send it.
const fewBytes = 16 << 20

// quickBytes is so little that reading it takes no time to speak of.
const quickBytes = 256 << 10

// maxAhead is how often, and aheadFor how long, what was written meanwhile is read ahead of a freeze: applications may be held by hooks already.
const (
	maxAhead = 12
	aheadFor = time.Second
)

// freezing is one try to reach an instant.
type freezing struct {
	*run
	held *held

	// What it took, for those who look for time.
	rounds        int
	ahead, within int64 // bytes
	flip, fill    time.Duration
}

// freeze reads the rest while nothing is written, and passes it on. All buffers are free before.
func (r *run) freeze(p *pipeline) error {
	room, err := p.buf.borrow(p.ctx)
	if err != nil {
		return err
	}
	depth := uint8(deepFrozen)
	if r.passes == 0 {
		depth = deep
	}
	f := &freezing{run: r, held: newHeld(room, r.conf.Keys.ChunkKey(), depth)}
	began := time.Now()
	var frozen *Frozen
	// Once before anything is got ready for a freeze, which may take its time.
	if err = f.more(p.ctx, false, true); err == nil {
		if r.conf.lasts() {
			return r.hold(p, f)
		}
		frozen, err = r.conf.Freeze(p.ctx, f.approach, f.inside)
	}
	if err != nil {
		room.giveBack(0)
		return fmt.Errorf("after %v: %w", time.Since(began).Round(time.Millisecond), err)
	}
	r.conf.Log.Debug("frozen", "for", frozen.For, "freezing", frozen.Freezing, "flip", f.flip, "read", f.fill, "thawing", frozen.Thawing,
		"bytes", f.within, "ahead", f.ahead, "rounds", f.rounds, "in", time.Since(began))
	r.laps.lap("freeze")
	r.frozen = *frozen
	r.lower()
	if r.frozen.Why != "" {
		r.note("the restpoint is %s: %s", r.frozen.Consistency, r.frozen.Why)
	}
	return r.passOn(p, f.held)
}

// more reads what is left, and after it did once what was written since the last flip but one. With flip the epoch is ended before.
func (f *freezing) more(ctx context.Context, flip, prove bool) error {
	began := time.Now()
	if flip {
		all, err := f.run.flip(ctx)
		if err != nil {
			return err
		}
		if !all {
			return fmt.Errorf("%w: not every disk is tracked any more", ErrNotFrozen)
		}
	}
	f.flip = time.Since(began)
	f.within = 0
	for _, d := range f.disks {
		n, err := f.held.read(ctx, d, d.since, prove)
		if err != nil {
			return err
		}
		f.within += n
	}
	f.fill = time.Since(began) - f.flip
	return nil
}

// approach reads what is written meanwhile until that is little, or does not get less.
func (f *freezing) approach(ctx context.Context) error {
	began := time.Now()
	for last := int64(math.MaxInt64); f.rounds < maxAhead && time.Since(began) < aheadFor; last = f.within {
		f.ahead += f.within
		f.rounds++
		if err := f.more(ctx, true, true); err != nil {
			return err
		}
		if f.within <= quickBytes || f.within > last/4*3 {
			break
		}
	}
	f.ahead += f.within
	return nil
}

// inside reads the rest.
func (f *freezing) inside(ctx context.Context, all bool) error {
	f.instant = time.Now()
	if err := f.more(ctx, true, false); err != nil {
		return err
	}
	if all {
		return f.quiet()
	}
	return f.still(ctx)
}

// still fails with errWritten if anything was written since the last flip. What was is read again.
func (r *run) still(ctx context.Context) error {
	marks, err := r.track.Flip(ctx)
	if err != nil {
		return fmt.Errorf("track changes: %w", err)
	}
	for _, d := range r.disks {
		if m := marks[d.src.ID()]; m != nil && m.Bytes() > 0 {
			d.todo.Union(m)
			err = errWritten
		}
	}
	return err
}

// passOn hands what was read to the pipeline, which copies it out of the room.
func (r *run) passOn(p *pipeline, h *held) error {
	var spans []*span
	for _, d := range r.disks {
		if err := d.spans(d.todo, h.planner(d), func(s *span) error {
			s.held = h
			spans = append(spans, s)
			return nil
		}); err != nil {
			return err
		}
		d.todo = nil
	}
	h.room.giveBack(len(spans))
	for _, s := range spans {
		for i := range s.n {
			r.n.total.Add(int64(s.length(i)))
		}
		if err := p.hand(s); err != nil {
			return err
		}
	}
	return nil
}
