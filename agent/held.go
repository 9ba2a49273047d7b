package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/lvm"
)

// held are the snapshots of one cycle. Its methods belong to the loop's goroutine.
type held struct {
	agent   *agent
	disks   []source.Source
	snaps   []*lvm.Snapshot // of the disks, in their order
	readers []source.Reader

	stop    context.CancelFunc // nil: nobody looks after them
	looking sync.WaitGroup
}

// open reads the snapshot of disk i.
func (h *held) open(ctx context.Context, i int) (source.Reader, error) {
	s, err := h.snaps[i].Source(h.disks[i])
	if err != nil {
		return nil, err
	}
	r, err := s.Open(ctx)
	if err == nil {
		h.readers = append(h.readers, r)
	}
	return r, err
}

// look checks now and then, until close: one that is lost fails the reads from then on, and one that endangers its pool is not kept for long.
func (h *held) look(ctx context.Context) {
	ctx, h.stop = context.WithCancel(ctx)
	h.looking.Go(func() {
		t := time.NewTicker(snapshotLook)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			if err := h.check(ctx); errors.Is(err, source.ErrLost) {
				return
			} // any other error shows after the last read
		}
	})
}

// check is nil if all snapshots are whole.
func (h *held) check(ctx context.Context) error {
	var errs []error
	for _, s := range h.snaps {
		errs = append(errs, s.Check(ctx))
	}
	return errors.Join(errs...)
}

// close removes the snapshots. What cannot be removed is tried again by the next cycle, and by the next start.
func (h *held) close() {
	if h.stop != nil {
		h.stop()
	}
	h.looking.Wait()
	for _, r := range h.readers {
		_ = r.Close() // it was only read
	}
	h.readers = nil
	var errs []error
	for i, s := range h.snaps {
		if s.Lost() && s.Room > 0 {
			h.agent.snapshots().tooLittle[h.disks[i].ID()] = s.Room
		}
		errs = append(errs, s.Remove(context.Background()))
	}
	h.snaps = nil
	err := errors.Join(errs...)
	if err == nil {
		err = h.agent.forgetSnapshots()
	}
	if err != nil {
		h.agent.log.Warn("a snapshot is left over", "error", err)
	}
}
