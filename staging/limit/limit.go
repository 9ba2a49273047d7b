// Package limit bounds what a process asks of staging: a staging.Store over another that lets so many operations run at once
// and sends and receives so many bytes a second. Any number of goroutines may use a Store; they share its bounds.
package limit

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging"
)

// Options of a Store. The zero value, or nil, bounds nothing.
type Options struct {
	Concurrent  int                                              // operations at once; a Get is one until its body is closed
	BytesPerSec int64                                            // in both directions together
	Clock       clock.Clock                                      // nil is the real one
	Sleep       func(ctx context.Context, d time.Duration) error // nil sleeps
}

// Store bounds the store below.
type Store struct {
	below staging.Store
	opts  Options
	slots chan struct{} // nil without a bound

	mu   sync.Mutex
	free time.Time // when what was let through will have passed; guarded by mu
}

// New wraps below.
func New(below staging.Store, opts *Options) *Store {
	s := &Store{below: below}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Clock == nil {
		s.opts.Clock = clock.Real{}
	}
	if s.opts.Sleep == nil {
		s.opts.Sleep = sleep
	}
	if s.opts.Concurrent > 0 {
		s.slots = make(chan struct{}, s.opts.Concurrent)
	}
	return s
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter waits for a slot; leave gives it back.
func (s *Store) enter(ctx context.Context) error {
	if s.slots == nil {
		return ctx.Err()
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for staging: %w", ctx.Err())
	}
}

func (s *Store) leave() {
	if s.slots != nil {
		<-s.slots
	}
}

// pay waits until n bytes may pass behind all that were let through before.
func (s *Store) pay(ctx context.Context, n int) error {
	if s.opts.BytesPerSec <= 0 || n == 0 {
		return nil
	}
	s.mu.Lock()
	now := s.opts.Clock.Now()
	if s.free.Before(now) {
		s.free = now
	}
	wait := s.free.Sub(now)
	s.free = s.free.Add(time.Duration(float64(n) / float64(s.opts.BytesPerSec) * float64(time.Second)))
	s.mu.Unlock()
	if wait == 0 {
		return nil
	}
	return s.opts.Sleep(ctx, wait)
}

func (s *Store) do(ctx context.Context, size int, fn func() error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	if err := s.pay(ctx, size); err != nil {
		return err
	}
	return fn()
}

// Put implements staging.Store. The body is paid for as a whole before it is sent.
func (s *Store) Put(ctx context.Context, name string, body []byte, opts *staging.PutOptions) error {
	return s.do(ctx, len(body), func() error { return s.below.Put(ctx, name, body, opts) })
}

// Get implements staging.Store. What is read is paid for as it comes.
func (s *Store) Get(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	r, err := s.below.Get(ctx, name, off, length)
	if err != nil {
		s.leave()
		return nil, err
	}
	return &body{ctx: ctx, store: s, r: r}, nil
}

type body struct {
	ctx    context.Context // of the Get
	store  *Store
	r      io.ReadCloser
	closed sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if perr := b.store.pay(b.ctx, n); perr != nil {
		return n, perr
	}
	return n, err
}

func (b *body) Close() error {
	err := b.r.Close()
	b.closed.Do(b.store.leave)
	return err
}

// Stat implements staging.Store.
func (s *Store) Stat(ctx context.Context, name string) (i staging.Info, err error) {
	err = s.do(ctx, 0, func() (err error) {
		i, err = s.below.Stat(ctx, name)
		return err
	})
	return i, err
}

// List implements staging.Store. It takes no slot, so that fn may use the store.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(staging.Info) error) error {
	return s.below.List(ctx, prefix, after, fn)
}

// Delete implements staging.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	return s.do(ctx, 0, func() error { return s.below.Delete(ctx, name) })
}

var _ staging.Store = (*Store)(nil)
