package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/memstore"
	"github.com/openmigrate/openmigrate/staging/retry"
	"github.com/openmigrate/openmigrate/staging/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// TestObeysRetryAfter: a server is not asked again before the time that it named, unless it names too long a time.
func TestObeysRetryAfter(t *testing.T) {
	for _, c := range []struct{ asked, from, to time.Duration }{
		{0, 50 * time.Millisecond, 100 * time.Millisecond},
		{time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond},
		{8 * time.Second, 8 * time.Second, 10 * time.Second},
		{24 * time.Hour, 20 * time.Second, 25 * time.Second},
	} {
		err := fmt.Errorf("put: %w", staging.WithRetryAfter(staging.ErrTemporary, c.asked))
		slept := map[time.Duration]bool{}
		for range 20 {
			s := retry.New(&failing{memstore.New(nil), 1, err}, &retry.Options{First: 100 * time.Millisecond, Obey: 20 * time.Second,
				Sleep: func(_ context.Context, d time.Duration) error {
					if d < c.from || d > c.to {
						t.Errorf("asked for %s: slept %s, want %s to %s", c.asked, d, c.from, c.to)
					}
					slept[d] = true
					return nil
				}})
			if err := s.Put(t.Context(), "a", nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		if len(slept) < 2 {
			t.Errorf("asked for %s: 20 clients would return at the same time", c.asked)
		}
	}
}
