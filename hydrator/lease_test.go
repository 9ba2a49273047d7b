package hydrator

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/wire"
)

// heard is a master that keeps what it is told.
type heard struct {
	*hydratortest.World
	mu   sync.Mutex
	told []wire.Progress // guarded by mu
	news chan struct{}
}

func (h *heard) RenewJob(ctx context.Context, job string, p *wire.Progress) (*wire.JobLease, error) {
	h.mu.Lock()
	h.told = append(h.told, *p)
	h.mu.Unlock()
	h.news <- struct{}{}
	return &wire.JobLease{TTL: wire.Duration(time.Minute)}, nil
}

// Progress is told long before the lease must be renewed, and once.
func TestProgressIsTold(t *testing.T) {
	h := &heard{World: hydratortest.NewWorld(t, nil), news: make(chan struct{}, 100)}
	j := h.Job(wire.JobVerify, nil)
	j.Lease.TTL = wire.Duration(time.Minute)
	_, err := hold(t.Context(), h, j, nil, func(_ context.Context, show func(wire.Progress)) (wire.JobResult, error) {
		show(wire.Progress{Total: 10, Done: 4})
		select {
		case <-h.news:
		case <-time.After(15 * time.Second):
			t.Error("no word of it in 15 s")
		}
		time.Sleep(tellEvery + time.Second/2)
		return wire.JobResult{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(h.told) != 1 || h.told[0].Done != 4 {
		t.Errorf("told %+v", h.told)
	}
}
