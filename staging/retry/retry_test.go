package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/memstore"
	"github.com/openmigrate/openmigrate/staging/retry"
	"github.com/openmigrate/openmigrate/staging/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) (staging.Store, *storetest.Options) { return retry.New(memstore.New(nil), nil), nil })
}

// failing refuses the first puts.
type failing struct {
	staging.Store
	left int
	err  error
}

func (f *failing) Put(ctx context.Context, name string, body []byte, o *staging.PutOptions) error {
	if f.left > 0 {
		f.left--
		return f.err
	}
	return f.Store.Put(ctx, name, body, o)
}

func TestPutRepeats(t *testing.T) {
	for _, c := range []struct {
		name   string
		fails  int
		err    error
		want   error
		sleeps int
	}{
		{"passes", 2, staging.ErrTemporary, nil, 2},
		{"lasts", 9, staging.ErrTemporary, staging.ErrTemporary, 3},
		{"denied", 1, staging.ErrDenied, staging.ErrDenied, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			sleeps := 0
			s := retry.New(&failing{memstore.New(nil), c.fails, c.err}, &retry.Options{Tries: 4, Sleep: func(context.Context, time.Duration) error {
				sleeps++
				return nil
			}})
			if err := s.Put(t.Context(), "a", nil, nil); !errors.Is(err, c.want) || sleeps != c.sleeps {
				t.Errorf("put: %v after %d sleeps, want %v after %d", err, sleeps, c.want, c.sleeps)
			}
		})
	}
}
