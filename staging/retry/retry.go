// Package retry repeats what failed for a while only: a staging.Store over another. Errors that do not wrap
// staging.ErrTemporary are returned at once; a server's Retry-After is obeyed, within bounds. Any number of goroutines may use a Store.
package retry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"github.com/openmigrate/openmigrate/staging"
)

// Options of a Store. The zero value, or nil, is usable.
type Options struct {
	Tries int                                              // in all, 6 when 0
	First time.Duration                                    // the first wait, doubled each time; 200 ms when 0
	Max   time.Duration                                    // the longest wait of our own, 10 s when 0
	Obey  time.Duration                                    // the longest wait that a server may ask for, 1 min when 0
	Sleep func(ctx context.Context, d time.Duration) error // nil sleeps
}

// Store repeats operations of the store below.
//
// A Put with IfAbsent that is repeated may meet the object that its own lost try made. It then still returns ErrExists:
// size alone cannot tell whose object it is, and the caller, who knows what it wrote, must compare.
type Store struct {
	below staging.Store
	opts  Options
}

// New wraps below.
func New(below staging.Store, opts *Options) *Store {
	s := &Store{below: below, opts: Options{}}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Tries == 0 {
		s.opts.Tries = 6
	}
	if s.opts.First == 0 {
		s.opts.First = 200 * time.Millisecond
	}
	if s.opts.Max == 0 {
		s.opts.Max = 10 * time.Second
	}
	if s.opts.Obey == 0 {
		s.opts.Obey = time.Minute
	}
	if s.opts.Sleep == nil {
		s.opts.Sleep = sleep
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

func (s *Store) do(ctx context.Context, fn func() error) error {
	wait := s.opts.First
	for try := 1; ; try++ {
		err := fn()
		if !errors.Is(err, staging.ErrTemporary) || try >= s.opts.Tries {
			return err
		}
		// Between half of the wait and all of it, so that clients that failed together do not return together; never before the
		// time that the server named, and up to a quarter later.
		pause := wait/2 + rand.N(wait/2+1)
		if asked := min(staging.RetryAfter(err), s.opts.Obey); asked > 0 {
			pause = max(pause, asked+rand.N(asked/4+1))
		}
		if serr := s.opts.Sleep(ctx, pause); serr != nil {
			return errors.Join(serr, err)
		}
		wait = min(2*wait, s.opts.Max)
	}
}

// Put implements staging.Store.
func (s *Store) Put(ctx context.Context, name string, body []byte, opts *staging.PutOptions) error {
	return s.do(ctx, func() error { return s.below.Put(ctx, name, body, opts) })
}

// Get implements staging.Store. What fails while it is read is the reader's to repeat.
func (s *Store) Get(ctx context.Context, name string, off, length int64) (r io.ReadCloser, err error) {
	err = s.do(ctx, func() error {
		r, err = s.below.Get(ctx, name, off, length)
		return err
	})
	return r, err
}

// Stat implements staging.Store.
func (s *Store) Stat(ctx context.Context, name string) (i staging.Info, err error) {
	err = s.do(ctx, func() error {
		i, err = s.below.Stat(ctx, name)
		return err
	})
	return i, err
}

// List implements staging.Store. It goes on behind the last name that fn saw.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(staging.Info) error) error {
	var stop error
	err := s.do(ctx, func() error {
		err := s.below.List(ctx, prefix, after, func(i staging.Info) error {
			after = i.Name
			stop = fn(i)
			return stop
		})
		if stop != nil {
			return nil // fn's own error is not ours to repeat
		}
		return err
	})
	if stop != nil {
		return stop
	}
	return err
}

// Delete implements staging.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	return s.do(ctx, func() error { return s.below.Delete(ctx, name) })
}

var _ staging.Store = (*Store)(nil)
