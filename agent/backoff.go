package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff waits longer each time, with some chance in it, so that agents that lost their master together do not return together.
type backoff struct{ next, first, most time.Duration }

func newBackoff(first, most time.Duration) *backoff { return &backoff{first, first, most} }

// step returns how long to wait now.
func (b *backoff) step() time.Duration {
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.most)
	return d
}

func (b *backoff) reset() { b.next = b.first }

func (b *backoff) wait(ctx context.Context) error { return sleep(ctx, b.step()) }

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
