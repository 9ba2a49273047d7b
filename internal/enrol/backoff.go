package enrol

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff waits for the master longer each time, with some chance in it, so that members that lost it together do not return
// together. It belongs to one goroutine.
type Backoff struct{ next, first, most time.Duration }

// NewBackoff starts with waits of first/2 to first, and ends with waits of most/2 to most.
func NewBackoff(first, most time.Duration) *Backoff { return &Backoff{first, first, most} }

// Step returns how long to wait now.
func (b *Backoff) Step() time.Duration {
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.most)
	return d
}

// Reset starts again with the shortest wait: the master has answered.
func (b *Backoff) Reset() { b.next = b.first }

// Wait waits one step. It returns the cause of ctx's end if that comes first.
func (b *Backoff) Wait(ctx context.Context) error { return sleep(ctx, b.Step()) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
