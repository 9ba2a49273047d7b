package ebsdirect

import (
	"context"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
)

// Limits are an account's quotas in one region. Zero fields are AWS's defaults. Hosts that write at once with one account share its quotas: give
// each its part.
type Limits struct {
	AccountPuts  float64 // PutSnapshotBlock requests a second in the account; 0: 1,000 (adjustable)
	SnapshotPuts float64 // and for one snapshot; 0: 1,000 (fixed)
	Starts       float64 // StartSnapshot requests a second; 0: 10
	Completes    float64 // CompleteSnapshot requests a second; 0: 10
	Pending      int     // snapshots that are not completed; 0: 100
}

func (l *Limits) fill() {
	def := func(v *float64, d float64) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.AccountPuts, 1000)
	def(&l.SnapshotPuts, 1000)
	def(&l.Starts, 10)
	def(&l.Completes, 10)
	if l.Pending <= 0 {
		l.Pending = 100
	}
}

// Pacer spaces the calls of an account. In every second it lets pass no more than the quota; when the service says all the same that it is too
// much (others use the account, too), it halves the rate and finds its way back up.
type Pacer struct {
	clock   clock.Clock
	sleep   func(context.Context, time.Duration) error
	limits  Limits
	pending chan struct{}

	mu        sync.Mutex
	puts      bucket             // guarded by mu, as is all below
	snapshots map[string]*bucket // of open snapshots
	starts    bucket
	completes bucket
}

// NewPacer makes a Pacer. Nil arguments are the system's time.
func NewPacer(l Limits, c clock.Clock, wait func(context.Context, time.Duration) error) *Pacer {
	l.fill()
	if c == nil {
		c = clock.Real{}
	}
	if wait == nil {
		wait = sleep
	}
	return &Pacer{clock: c, sleep: wait, limits: l, pending: make(chan struct{}, l.Pending), snapshots: map[string]*bucket{},
		puts: newBucket(l.AccountPuts), starts: newBucket(l.Starts), completes: newBucket(l.Completes)}
}

// Limits are the quotas that are kept to.
func (p *Pacer) Limits() Limits { return p.limits }

// open waits for one of the places for pending snapshots; the caller gives it back with close.
func (p *Pacer) open(ctx context.Context) error {
	select {
	case p.pending <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *Pacer) close(snapshot string) {
	<-p.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.snapshots, snapshot)
}

func (p *Pacer) start(ctx context.Context) error    { return p.wait(ctx, &p.starts) }
func (p *Pacer) complete(ctx context.Context) error { return p.wait(ctx, &p.completes) }

func (p *Pacer) wait(ctx context.Context, b *bucket) error {
	p.mu.Lock()
	d := b.take(p.clock.Now())
	p.mu.Unlock()
	return p.pause(ctx, d)
}

// put waits for the turn of a block.
func (p *Pacer) put(ctx context.Context, snapshot string) error {
	p.mu.Lock()
	now := p.clock.Now()
	d := max(p.puts.take(now), p.snapshot(snapshot).take(now))
	p.mu.Unlock()
	return p.pause(ctx, d)
}

// snapshot is the bucket of one. The caller holds mu.
func (p *Pacer) snapshot(id string) *bucket {
	b := p.snapshots[id]
	if b == nil {
		nb := newBucket(p.limits.SnapshotPuts)
		b = &nb
		p.snapshots[id] = b
	}
	return b
}

func (p *Pacer) pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	return p.sleep(ctx, d)
}

// throttled is told that the service refused a call for its rate. own: that of the snapshot rather than the account's.
func (p *Pacer) throttled(action, snapshot string, own bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	switch {
	case action == actionStart:
		p.starts.cut(now)
	case action == actionComplete:
		p.completes.cut(now)
	case own:
		p.snapshot(snapshot).cut(now)
	default:
		p.puts.cut(now)
	}
}

// Rate is how many blocks a second the account gets now.
func (p *Pacer) Rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.puts.grow(p.clock.Now())
	return p.puts.rate
}

// bucket spaces calls evenly: 98 % of the quota, and what 2 % of a second's calls make up when a goroutine woke late. So any second, wherever
// it begins, has at most the quota.
type bucket struct {
	full  float64   // calls a second when nobody complains
	rate  float64   // now
	burst float64   // calls that may come at once after a pause
	next  time.Time // when the next call may leave
	at    time.Time // when rate was right
	held  time.Time // rate does not grow before
}

// Share is the part of each quota that is used.
const Share = 0.98

const (
	regain = 0.05 // of full, a second
	hold   = time.Second
)

func newBucket(quota float64) bucket {
	return bucket{full: quota * Share, rate: quota * Share, burst: max(0, quota*(1-Share)-1)}
}

// take is how long the caller waits before its call.
func (b *bucket) take(now time.Time) time.Duration {
	b.grow(now)
	step := time.Duration(float64(time.Second) / b.rate)
	if early := now.Add(-time.Duration(b.burst * float64(step))); b.next.Before(early) {
		b.next = early
	}
	at := b.next
	b.next = at.Add(step)
	return at.Sub(now)
}

func (b *bucket) grow(now time.Time) {
	if since := now.Sub(b.at); b.rate < b.full && now.After(b.held) && since > 0 {
		b.rate = min(b.full, b.rate+b.full*regain*since.Seconds())
	}
	b.at = now
}

// cut halves the rate, once for all the calls that were under way together.
func (b *bucket) cut(now time.Time) {
	b.grow(now)
	if now.Before(b.held) {
		return
	}
	b.rate = max(b.rate/2, b.full/100)
	b.held = now.Add(hold)
	if pause := now.Add(hold / 4); b.next.Before(pause) {
		b.next = pause
	}
}
