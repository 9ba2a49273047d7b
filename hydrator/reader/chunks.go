package reader

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Sink takes what Read brings. Its functions are called from many goroutines at once, in no strict order; an error of
// either ends the reading.
type Sink struct {
	// Deliver gets verified content, good only during the call.
	Deliver func(w Want, content []byte) error
	// Damaged is told of a want that no stored copy satisfies.
	Damaged func(w Want, err error) error
}

// Read brings everything that next asks for. next is called from one goroutine and returns an empty batch at the end; a batch of up
// to wire.MaxOffer wants is resolved with one request. Read returns when all is delivered or reported, or with the first error.
func (r *Reader) Read(ctx context.Context, next func(context.Context) ([]Want, error), s Sink) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	groups := make(chan group, r.opts.Buffers)
	loaded := make(chan load, r.opts.Buffers)
	var planner, fetchers, workers sync.WaitGroup
	run := func(wg *sync.WaitGroup, fn func() error) {
		wg.Go(func() {
			if err := fn(); err != nil {
				cancel(err)
			}
		})
	}
	run(&planner, func() error { defer close(groups); return r.planAll(ctx, next, s, groups) })
	for range max(2, r.opts.Buffers-r.opts.Workers) {
		run(&fetchers, func() error { return r.fetchAll(ctx, groups, loaded) })
	}
	for range r.opts.Workers {
		run(&workers, func() error { return r.openAll(ctx, loaded, s) })
	}
	planner.Wait()
	fetchers.Wait()
	close(loaded)
	workers.Wait()
	for l := range loaded {
		r.release(l.buf)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (r *Reader) planAll(ctx context.Context, next func(context.Context) ([]Want, error), s Sink, to chan<- group) error {
	for {
		wants, err := next(ctx)
		if err != nil || len(wants) == 0 {
			return err
		}
		found, lost, why, err := r.resolve(ctx, wants)
		if err != nil {
			return err
		}
		for i := range lost {
			if err := s.damaged(&lost[i], why[i]); err != nil {
				return err
			}
		}
		groups := plan(found, r.opts.MaxGet, r.opts.MaxGap)
		packs := make([]format.PackID, 0, len(groups))
		seen := map[format.PackID]bool{}
		add := func(p format.PackID) {
			if !seen[p] {
				seen[p] = true
				packs = append(packs, p)
			}
		}
		for i := range groups {
			add(groups[i].pack)
			for j := range groups[i].items {
				for k := range groups[i].items[j].chain {
					add(groups[i].items[j].chain[k].Pack)
				}
			}
		}
		if err := r.sign(ctx, packs); err != nil {
			return err
		}
		for _, g := range groups {
			select {
			case to <- g:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// load is a group with its bytes, or the reason why there are none.
type load struct {
	group group
	buf   []byte
	err   error
}

func (r *Reader) fetchAll(ctx context.Context, groups <-chan group, to chan<- load) error {
	for g := range groups {
		buf, err := r.buffer(ctx)
		if err != nil {
			return err
		}
		l := load{group: g, buf: buf}
		if l.err = r.fetch(ctx, &g, buf); l.err != nil && !isDamage(l.err) {
			r.release(buf)
			return l.err
		}
		select {
		case to <- l:
		case <-ctx.Done():
			r.release(buf)
			return context.Cause(ctx)
		}
	}
	return nil
}

func (r *Reader) fetch(ctx context.Context, g *group, buf []byte) error {
	if r.missing.has(g.pack) {
		return fmt.Errorf("read pack %s: %w", g.pack, staging.ErrNotFound)
	}
	if err := r.read(ctx, g.pack, g.off, buf[:g.end-g.off]); err != nil {
		return err
	}
	return r.fetchBases(ctx, g, buf)
}

// isDamage tells an error of what is stored from one of getting at it.
func isDamage(err error) bool {
	return errors.Is(err, format.ErrCorrupt) || errors.Is(err, format.ErrIDMismatch) || errors.Is(err, format.ErrVersion) ||
		errors.Is(err, staging.ErrNotFound) || errors.Is(err, errShort) || errors.Is(err, errNowhere)
}

func (r *Reader) openAll(ctx context.Context, from <-chan load, s Sink) error {
	o, err := r.opener()
	if err != nil {
		return err
	}
	defer r.openers.Put(o)
	m := scratch{content: make([]byte, 0, chunker.MinSize+chunker.Slack)}
	for l := range from {
		err := r.openGroup(ctx, o, &l, &m, s)
		r.release(l.buf)
		if err != nil {
			return err
		}
	}
	return nil
}

// scratch is the memory that one goroutine opens entries in.
type scratch struct{ content, base, spare []byte }

func (r *Reader) openGroup(ctx context.Context, o *format.Opener, l *load, m *scratch, s Sink) error {
	for i := range l.group.items {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		it := &l.group.items[i]
		content, err := []byte(nil), l.err
		if err == nil {
			content, err = l.open(o, it, m)
		}
		if err != nil {
			content, err = r.repair(ctx, o, it, err, m.content)
		}
		switch {
		case err == nil:
			m.content = content
			err = s.deliver(it, content)
		case isDamage(err):
			err = s.damaged(it, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Sink) deliver(it *item, content []byte) error {
	for _, w := range it.wants {
		if err := s.Deliver(w, content); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sink) damaged(it *item, err error) error {
	for _, w := range it.wants {
		if err := s.Damaged(w, err); err != nil {
			return err
		}
	}
	return nil
}
