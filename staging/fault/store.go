package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/openmigrate/openmigrate/staging"
)

// Store fails as its rules say, and is the store below otherwise. Its requests are signed below.
type Store struct {
	script
	below staging.Store
}

// New wraps below.
func New(below staging.Store, rules ...Rule) *Store {
	return &Store{below: below, script: script{rules: rules}}
}

// Randomly lets the given part (0 to 1) of the calls that no rule meets fail with staging.ErrTemporary, before or after
// their work or within a body. The same seed and order of calls give the same faults.
func (s *Store) Randomly(seed uint64, rate float64) {
	s.randomly(seed, rate, []Rule{
		{Err: staging.ErrTemporary}, {Err: staging.ErrTemporary, After: true}, {HalfBody: true},
	})
}

// around runs work as the next rule for op says, and returns that rule.
func (s *Store) around(ctx context.Context, op string, work func() error) (Rule, error) {
	r := s.next(op)
	if err := r.begin(ctx); err != nil {
		return r, fmt.Errorf("%s: %w", op, err)
	}
	if r.Err != nil && !r.After {
		return r, fmt.Errorf("%s: %w", op, r.Err)
	}
	if err := work(); err != nil {
		return r, err
	}
	if r.Err != nil {
		return r, fmt.Errorf("%s: %w", op, r.Err)
	}
	return r, nil
}

// Put implements staging.Store.
func (s *Store) Put(ctx context.Context, name string, body []byte, opts *staging.PutOptions) error {
	_, err := s.around(ctx, "Put", func() error { return s.below.Put(ctx, name, body, opts) })
	return err
}

// Get implements staging.Store.
func (s *Store) Get(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	var body io.ReadCloser
	r, err := s.around(ctx, "Get", func() (err error) {
		body, err = s.below.Get(ctx, name, off, length)
		return err
	})
	if err != nil {
		if body != nil {
			err = errors.Join(err, body.Close())
		}
		return nil, err
	}
	if r.HalfBody {
		return half(body, fmt.Errorf("read %s: %w: %w", name, staging.ErrTemporary, ErrBroken))
	}
	return body, nil
}

// half reads all of body and gives its first half, then err.
func half(body io.ReadCloser, err error) (io.ReadCloser, error) {
	b, rerr := io.ReadAll(body)
	if rerr = errors.Join(rerr, body.Close()); rerr != nil {
		return nil, rerr
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(b[:len(b)/2]), broken{err})), nil
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// Stat implements staging.Store.
func (s *Store) Stat(ctx context.Context, name string) (i staging.Info, err error) {
	_, err = s.around(ctx, "Stat", func() (err error) {
		i, err = s.below.Stat(ctx, name)
		return err
	})
	return i, err
}

// List implements staging.Store. Where Rule.HalfBody is set, it fails behind the first object.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(staging.Info) error) error {
	r := s.next("List")
	if err := r.begin(ctx); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if r.Err != nil && !r.After {
		return fmt.Errorf("list: %w", r.Err)
	}
	err := s.below.List(ctx, prefix, after, func(i staging.Info) error {
		if err := fn(i); err != nil {
			return err
		}
		if r.HalfBody {
			return fmt.Errorf("list: %w: %w", staging.ErrTemporary, ErrBroken)
		}
		return nil
	})
	if err == nil && r.Err != nil {
		err = fmt.Errorf("list: %w", r.Err)
	}
	return err
}

// Delete implements staging.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	_, err := s.around(ctx, "Delete", func() error { return s.below.Delete(ctx, name) })
	return err
}

var errNoSigner = errors.New("the store below signs nothing")

// SignPut implements staging.Signer.
func (s *Store) SignPut(ctx context.Context, name string, o staging.SignPut) (req staging.SignedRequest, err error) {
	signer, ok := s.below.(staging.Signer)
	if !ok {
		return req, errNoSigner
	}
	_, err = s.around(ctx, "SignPut", func() (err error) {
		req, err = signer.SignPut(ctx, name, o)
		return err
	})
	return req, err
}

// SignGet implements staging.Signer.
func (s *Store) SignGet(ctx context.Context, name string, valid time.Duration) (req staging.SignedRequest, err error) {
	signer, ok := s.below.(staging.Signer)
	if !ok {
		return req, errNoSigner
	}
	_, err = s.around(ctx, "SignGet", func() (err error) {
		req, err = signer.SignGet(ctx, name, valid)
		return err
	})
	return req, err
}

var (
	_ staging.Store  = (*Store)(nil)
	_ staging.Signer = (*Store)(nil)
)
