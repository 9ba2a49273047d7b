package hydrator

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// applier writes one disk onto one volume.
type applier struct {
	r    *reader.Reader
	v    target
	j    ledger
	o    restoreOptions
	disk *format.Disk
	to   journal.Content
	t    *tracker
	bad  damageList

	planner planner
}

func newApplier(r *reader.Reader, v target, j ledger, rp *format.Restpoint, d *format.Disk, o restoreOptions) *applier {
	if o.batch <= 0 || o.batch > wire.MaxOffer {
		o.batch = defaultBatch
	}
	if o.every <= 0 {
		o.every = defaultEvery
	}
	return &applier{r: r, v: v, j: j, o: o, disk: d, bad: damageList{disk: d}, to: journal.Content{
		Machine: rp.Machine, Disk: d.ID, Restpoint: rp.ID, Size: d.Size, ChunkSize: d.ChunkSize, Root: d.Root,
	}}
}

// run writes what differs, and again with nothing taken for granted when the old tree turns out to be gone.
func (a *applier) run(ctx context.Context, rehash bool) (wire.JobResult, error) {
	before := a.r.Fetched()
	err := a.pass(ctx, rehash)
	if errors.Is(err, errOldTree) && !rehash {
		if err = a.j.Forget(); err == nil {
			err = a.pass(ctx, true)
		}
	}
	res, _ := a.t.totals(a.to.ChunkSize)
	res.Fetched = a.r.Fetched() - before
	if err == nil && res.Damaged > 0 {
		err = a.bad.error(res.Damaged)
	}
	if err != nil {
		// What was written stays written: note it, unless the volume itself fails.
		return res, errors.Join(err, a.checkpoint())
	}
	if err := a.v.Sync(); err != nil {
		return res, err
	}
	id, err := a.v.Identity()
	if err != nil {
		return res, err
	}
	return res, a.j.Finish(id)
}

// pass goes once over the differences that the journal's state implies.
func (a *applier) pass(ctx context.Context, rehash bool) error {
	st := a.j.State()
	a.t = newTracker(st.Done)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &changes{
		nodes: a.r, to: a.disk.Tree(), state: st, unknown: unknownFrom(&st, &a.to, a.v.Device()),
		damaged: func(id chunker.ID, first, end int64, cause error) {
			a.bad.add(first, end-first, id, cause)
			a.t.damaged(-1, first)
		},
	}
	next, stop := iter.Pull2(c.all(ctx))
	defer stop()
	a.planner = planner{a: a, next: next}
	if rehash {
		a.planner.hash = chunker.NewHasher(a.r.Keys().ChunkKey())
	}

	notes := make(chan struct{}, 1)
	var noter sync.WaitGroup
	noter.Go(func() {
		for range notes {
			a.v.StartSync()
			if a.t.mark()-a.j.State().Done < a.o.every/int64(a.to.ChunkSize) {
				continue
			}
			if err := a.checkpoint(); err != nil {
				cancel(err)
			}
		}
	})
	meter := meter{a: a, notes: notes}
	err := a.r.Read(ctx, a.planner.batch, reader.Sink{
		Deliver: func(w reader.Want, content []byte) error {
			if _, err := a.v.WriteAt(content, w.Index*int64(a.to.ChunkSize)); err != nil {
				return fmt.Errorf("write %s: %w", a.v.Path(), err)
			}
			a.t.written(int64(len(content)))
			a.t.done(w.Batch, len(content))
			meter.tick(len(content))
			return nil
		},
		Damaged: func(w reader.Want, cause error) error {
			a.bad.add(w.Index, 1, w.ID, cause)
			a.t.damaged(w.Batch, w.Index)
			return nil
		},
	})
	close(notes)
	noter.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		meter.show()
	}
	return err
}

// checkpoint makes what is written durable and notes it.
func (a *applier) checkpoint() error {
	mark := a.t.mark()
	if mark <= a.j.State().Done {
		return nil
	}
	if err := a.v.Sync(); err != nil {
		return err
	}
	return a.j.Advance(mark)
}
