package cycle

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// maxPasses is how often what was written meanwhile is read before a cycle gives up on reaching one instant.
const maxPasses = 12

// errWritten: something that could not be frozen wrote to a disk while it was read.
var errWritten = errors.New("something wrote meanwhile that cannot be frozen")

// errTooMuch: more was written than fits into memory while the file systems are frozen.
var errTooMuch = errors.New("too much was written since the last pass")

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
	if err := r.read(p); err != nil {
		_ = p.fail(err) // close has the cause
	}
	if err := p.close(); err != nil {
		return err
	}
	return r.checkSnapshot(ctx)
}

// read makes the passes and has the trees made.
func (r *run) read(p *pipeline) error {
	r.passes = 1
	for _, d := range r.disks {
		pass := p.scan
		if !d.scan {
			unread := d.layout.Size - chunkBytes(d.marks, d.layout)
			r.n.total.Add(-unread)
			r.unread += unread
			pass = func(d *disk) error { return p.marked(d, d.marks, deep) }
		}
		if err := pass(d); err != nil {
			return err
		}
	}
	if r.snaps != nil {
		r.settleSnapshot()
	} else if r.unfrozen != "" {
		r.fuzzy("%s", r.unfrozen)
	} else if r.conf.Freeze == nil {
		r.fuzzy("no way to freeze was given")
	} else if err := r.converge(p); err != nil {
		return err
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
	for _, d := range r.disks {
		if err := p.hand(&span{d: d, last: true}); err != nil {
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
		left := r.left()
		if left > shipAt && r.fresh() > 0 {
			if err := p.drain(true); err != nil {
				return err
			}
			left = r.left()
		}
		if left <= aheadBytes && (left <= quickBytes || left > last/2) || left <= frozenBytes*3/4 && r.passes == maxPasses {
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
		_ = d.plan(d.todo, deepFrozen, func(x part) error { // fails only if f does
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

// aheadBytes is how much is read ahead of a freeze at most. It is in memory twice, and there must be room for what is written meanwhile.
const aheadBytes = frozenBytes * 7 / 16

// quickBytes is so little that reading it takes no time to speak of: another pass before the freeze would not shorten it.
const quickBytes = 2 << 20

// shipAt is how many bytes may be left before a pack is sent off that is not full, so that what was sent can be what patches stand on. Without that
// chunks that are written again and again are read whole.
const shipAt = 8 << 20

// freeze reads the rest while nothing is written, and passes it on. All buffers are free before.
func (r *run) freeze(p *pipeline) error {
	room, err := p.buf.borrow(p.ctx)
	if err != nil {
		return err
	}
	ahead, err := r.readAhead(p.ctx, room)
	if err != nil {
		room.giveBack(0)
		return err
	}
	var spans []*span
	inside := func(ctx context.Context, all bool) error {
		r.instant = time.Now()
		// What an earlier try read is read again: it may have been written since.
		if _, err := r.flip(ctx); err != nil {
			return err
		}
		if spans, err = r.spans(room); err != nil {
			return err
		}
		for _, s := range spans {
			s.ahead = ahead[s.d]
		}
		if err := fillAll(ctx, spans); err != nil {
			return err
		}
		if all {
			return r.quiet()
		}
		return r.still(p.ctx)
	}
	began := time.Now()
	frozen, err := r.conf.Freeze(p.ctx, inside)
	if err != nil {
		room.giveBack(0)
		return fmt.Errorf("after %v: %w", time.Since(began).Round(time.Millisecond), err)
	}
	r.frozen = *frozen
	r.lower()
	if r.frozen.Why != "" {
		r.note("the restpoint is %s: %s", r.frozen.Consistency, r.frozen.Why)
	}
	room.giveBack(len(spans))
	for _, d := range r.disks {
		d.todo = nil
	}
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

// readAhead reads what is left before the freeze, so that only what is written meanwhile must be read within it. It returns by disk and chunk where that is; nothing
// where that would take more than its part of the room.
func (r *run) readAhead(ctx context.Context, room *room) (map[*disk]map[int64]*span, error) {
	if r.left() > aheadBytes {
		return nil, nil
	}
	spans, err := r.spans(room)
	if err != nil {
		return nil, err
	}
	if err := fillAll(ctx, spans); err != nil {
		return nil, err
	}
	ahead := map[*disk]map[int64]*span{}
	for _, s := range spans {
		if ahead[s.d] == nil {
			ahead[s.d] = map[int64]*span{}
		}
		for i := range s.parts {
			ahead[s.d][s.parts[i].index] = s
		}
	}
	return ahead, nil
}

// fillAll reads spans, several at once.
func fillAll(ctx context.Context, spans []*span) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(frozenReads)
	for _, s := range spans {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return s.fill()
		})
	}
	return group.Wait()
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

// frozenReads is how many reads run at once while file systems are frozen.
const frozenReads = 16

// spans cuts what is left into reads that fit into room.
func (r *run) spans(room *room) ([]*span, error) {
	var spans []*span
	for _, d := range r.disks {
		err := d.spans(d.todo, deepFrozen, func(s *span, n int) error {
			if s.raw, s.back = room.take(n), room.release; s.raw == nil {
				return fmt.Errorf("%w: %d MiB, and there is room for %d", errTooMuch, r.left()>>20, frozenBytes>>20)
			}
			spans = append(spans, s)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return spans, nil
}
