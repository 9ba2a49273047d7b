package cycle

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// maxPasses is how often what was written meanwhile is read before a cycle gives up on reaching one instant.
const maxPasses = 12

// send moves the data of all disks into staging.
func (r *run) send(ctx context.Context) error {
	done, err := r.snapshot(ctx)
	if err != nil {
		return err
	}
	defer done()
	p, err := newPipeline(ctx, r)
	if err != nil {
		return err
	}
	if err := r.read(p); p.closed { // by a freeze that lasted
		return err
	} else if err != nil {
		_ = p.fail(err) // close has the cause
	}
	if err := p.close(); err != nil {
		return err
	}
	return r.checkSnapshot(ctx)
}

// read makes the passes and has the trees made.
func (r *run) read(p *pipeline) error {
	if r.few() {
		for _, d := range r.disks {
			d.todo = d.marks
			r.skip(d.layout.Size, d.layout.Size-chunkBytes(d.marks, d.layout))
		}
	} else if err := r.first(p); err != nil {
		return err
	}
	r.laps.lap("read")
	if r.snaps != nil {
		r.settleSnapshot()
	} else if r.unfrozen != "" {
		r.fuzzy("%s", r.unfrozen)
	} else if r.conf.Freeze == nil && !r.conf.lasts() {
		r.fuzzy("no way to freeze was given")
	} else if err := r.converge(p); err != nil || r.listed != nil {
		return err
	}
	if r.conf.lasts() {
		return fmt.Errorf("%w: %s", ErrNotFrozen, r.frozen.Why)
	}
	for _, d := range r.disks {
		if d.todo != nil { // the tracker takes it as read
			if err := r.pass(p, d); err != nil {
				return err
			}
		}
	}
	if r.frozen.Consistency == format.Fuzzy { // else what is unknown now has changed since
		if err := r.repeat(p); err != nil {
			return err
		}
	}
	return r.trees(p)
}

// trees has the trees made of what was handed on.
func (r *run) trees(p *pipeline) error {
	for _, d := range r.disks {
		if err := p.hand(&span{d: d, last: true}); err != nil {
			return err
		}
	}
	return nil
}

// few reports whether so little was written since the base that it need not be read before the freeze reads it: a restpoint is older when it is listed
// by the time that it takes to send what it has, and begun sooner by the time of a pass.
func (r *run) few() bool {
	if r.conf.Freeze == nil || r.snaps != nil || r.unfrozen != "" {
		return false
	}
	var n int64
	for _, d := range r.disks {
		if d.scan || d.plan(d.marks, d.planner(d.marks, deep, false), func(x part) error {
			if n += int64(x.n); n > fewBytes {
				return errTooMuch
			}
			return nil
		}) != nil {
			return false
		}
	}
	return true
}

// skip takes bytes of a disk out of what is to be read. So many of them are as in the base.
func (r *run) skip(n, same int64) {
	r.n.total.Add(-n)
	r.unread += same
}

// first makes the first pass.
func (r *run) first(p *pipeline) error {
	r.passes = 1
	for _, d := range r.disks {
		pass := p.scan
		if !d.scan {
			n := chunkBytes(d.marks, d.layout)
			r.skip(d.layout.Size-n, d.layout.Size-n)
			pass = func(d *disk) error { return p.marked(d, d.marks, deep) }
		}
		if err := pass(d); err != nil {
			return err
		}
	}
	return nil
}

// repeat reads what turned out to be unknown.
func (r *run) repeat(p *pipeline) error {
	if err := p.drain(false); err != nil {
		return err
	}
	for _, d := range r.disks {
		if len(d.again) == 0 {
			continue
		}
		d.todo = track.NewMarks(d.layout.Size, int64(d.layout.ChunkSize))
		d.takeAgain(d.todo)
		if err := r.pass(p, d); err != nil {
			return err
		}
	}
	return p.drain(false)
}

// takeAgain marks the chunks that must be read whole.
func (d *disk) takeAgain(m *track.Marks) {
	for _, i := range d.again {
		m.Add(i*int64(d.layout.ChunkSize), int64(d.layout.ChunkSize))
	}
	d.again = nil
}

// converge reads what was written meanwhile, again and again, until the rest fits into memory and can be read while nothing is written.
// If that does not come about the restpoint stays fuzzy.
func (r *run) converge(p *pipeline) error {
	written := 0
	for last := int64(math.MaxInt64); ; {
		if err := p.drain(false); err != nil {
			return err
		}
		all, err := r.flip(p.ctx)
		if err != nil {
			return err
		}
		if !all {
			r.fuzzy("not every disk is tracked while it is read")
			return nil
		}
		r.laps.lap("drain")
		left := r.left()
		r.laps.list = append(r.laps.list, "left", left)
		if left > shipAt && r.fresh() > 0 {
			if err := p.drain(true); err != nil {
				return err
			}
			left = r.left()
			r.laps.lap("ship")
		}
		if left <= aheadBytes && (left <= fewBytes || left > last/2 || r.passes == maxPasses) {
			err := r.freeze(p)
			if errors.Is(err, ErrNotFrozen) {
				r.fuzzy("%v", err)
				return nil
			}
			if err == nil || !errors.Is(err, errTooMuch) && !errors.Is(err, errWritten) && !errors.Is(err, context.DeadlineExceeded) || p.ctx.Err() != nil {
				return err
			}
			if errors.Is(err, errWritten) {
				if written++; written == maxWritten {
					r.fuzzy("file systems were frozen %d times, and each time %v. A disk that is not to be moved can be left out; else stop who writes to it for a moment",
						written, err)
					return nil
				}
			}
			r.note("another pass: %v", err)
		}
		if r.passes == maxPasses {
			r.stuck = true
			r.fuzzy("after %d passes %d MiB are still written while a pass runs. A smaller chunk size, more bandwidth or a quieter hour would help",
				r.passes, r.left()>>20)
			return nil
		}
		r.passes++
		last = left
		for _, d := range r.disks {
			if err := r.pass(p, d); err != nil {
				return err
			}
		}
		r.laps.lap("pass")
	}
}

// pass reads what was written to a disk meanwhile.
func (r *run) pass(p *pipeline, d *disk) error {
	todo := d.todo
	d.todo = nil
	r.n.total.Add(chunkBytes(todo, d.layout))
	return p.marked(d, todo, deepPasses)
}

// flip adds what was written meanwhile to what is to be read. It reports whether that is known of every disk.
func (r *run) flip(ctx context.Context) (bool, error) {
	marks, err := r.track.Flip(ctx)
	if err != nil {
		return false, fmt.Errorf("track changes: %w", err)
	}
	all := true
	for _, d := range r.disks {
		m := marks[d.src.ID()]
		if m == nil {
			all = false
			continue
		}
		d.since = m
		r.remember(d, m)
		if d.todo == nil {
			d.todo = track.NewMarks(m.Size(), m.Grain())
		}
		d.todo.Union(m)
		d.takeAgain(d.todo)
	}
	return all, nil
}

// left is how many bytes a freeze would have to read.
func (r *run) left() (n int64) {
	for _, d := range r.disks {
		_ = d.plan(d.todo, d.planner(d.todo, deepFrozen, true), func(x part) error { // fails only if f does
			n += int64(x.n)
			return nil
		})
	}
	return n
}

// fresh is how many chunks were sent that patches could stand on, were they committed.
func (r *run) fresh() (n int) {
	for _, d := range r.disks {
		if d.blocks != nil {
			n += d.blocks.Fresh()
		}
	}
	return n
}

func chunkBytes(m *track.Marks, l chunker.Layout) int64 {
	var n int64
	_ = chunkRanges(m, l, func(first, end int64) error { // fails only if f does
		n += min(end*int64(l.ChunkSize), l.Size) - first*int64(l.ChunkSize)
		return nil
	})
	return n
}

// shipAt is how many bytes may be left before a pack is sent off that is not full, so that what was sent can be what patches stand on. Without that
// chunks that are written again and again are read whole.
const shipAt = 8 << 20
