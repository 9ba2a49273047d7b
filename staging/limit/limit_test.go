package limit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/limit"
	"github.com/openmigrate/openmigrate/staging/memstore"
	"github.com/openmigrate/openmigrate/staging/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) (staging.Store, *storetest.Options) {
		return limit.New(memstore.New(nil), &limit.Options{Concurrent: 2, BytesPerSec: 10 << 30}), nil
	})
}

func TestRate(t *testing.T) {
	c := clock.NewFake(time.Unix(1, 0))
	var slept time.Duration
	s := limit.New(memstore.New(nil), &limit.Options{BytesPerSec: 1000, Clock: c, Sleep: func(_ context.Context, d time.Duration) error {
		slept += d
		c.Advance(d)
		return nil
	}})
	for range 5 {
		if err := s.Put(t.Context(), "a", make([]byte, 500), nil); err != nil {
			t.Fatal(err)
		}
	}
	if slept != 2*time.Second { // the fifth goes when four have passed
		t.Errorf("slept %s for 2500 bytes at 1000/s, want 2s", slept)
	}
}

func TestConcurrent(t *testing.T) {
	s := limit.New(memstore.New(nil), &limit.Options{Concurrent: 1})
	if err := s.Put(t.Context(), "a", []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Stat(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stat beside an open body: %v", err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "a"); err != nil {
		t.Errorf("stat after it: %v", err)
	}
}
