package boltstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
)

func opened(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

// together runs updates of which all but the first wait in line while the first one runs, so that they share a transaction, in that order.
func together(t *testing.T, s *Store, fns ...func(store.Writer) error) []error {
	t.Helper()
	errs := make([]error, len(fns))
	var all sync.WaitGroup
	started, proceed := make(chan struct{}), make(chan struct{})
	all.Go(func() {
		if err := s.Update(t.Context(), func(store.Writer) error { close(started); <-proceed; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-started
	for i, fn := range fns {
		all.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("panic: %v", p)
				}
			}()
			errs[i] = s.Update(t.Context(), fn)
		})
		for waiting := 0; waiting <= i; time.Sleep(100 * time.Microsecond) {
			s.mu.Lock()
			waiting = len(s.line)
			s.mu.Unlock()
		}
	}
	close(proceed)
	all.Wait()
	return errs
}

func value(t *testing.T, s *Store, key string) string {
	t.Helper()
	out := ""
	if err := s.View(t.Context(), func(r store.Reader) error {
		v, err := r.Get("t", []byte(key))
		if errors.Is(err, store.ErrNotFound) {
			out = "-"
			return nil
		}
		out = string(v)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func set(pairs ...string) func(store.Writer) error {
	return func(w store.Writer) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := w.Put("t", []byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	}
}

// Of updates that share a transaction each sees what those before it did, and one that fails or panics leaves nothing.
func TestGroupUndoesOne(t *testing.T) {
	s := opened(t)
	if err := s.Update(t.Context(), set("a", "0", "b", "0", "gone", "0")); err != nil {
		t.Fatal(err)
	}
	own := errors.New("own")
	errs := together(t, s,
		set("a", "1"),
		func(w store.Writer) error {
			return errors.Join(set("a", "2", "a", "3", "b", "4", "new", "5")(w), w.Delete("t", []byte("gone")), w.Delete("t", []byte("new")), w.Put("other", []byte("x"), nil), own)
		},
		func(w store.Writer) error {
			if err := errors.Join(set("b", "6")(w), w.Delete("t", []byte("a"))); err != nil {
				return err
			}
			panic("at the disco")
		},
		func(w store.Writer) error {
			a, err := w.Get("t", []byte("a"))
			if string(a) != "1" || err != nil {
				t.Errorf("a is %q, %v", a, err)
			}
			return set("c", "7")(w)
		})
	if errs[0] != nil || !errors.Is(errs[1], own) || fmt.Sprint(errs[2]) != "panic: at the disco" || errs[3] != nil {
		t.Errorf("%v", errs)
	}
	for key, want := range map[string]string{"a": "1", "b": "0", "gone": "0", "new": "-", "c": "7"} {
		if got := value(t, s, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if errs := together(t, s, func(store.Writer) error { return own }, func(w store.Writer) error { return errors.Join(set("a", "9")(w), own) }); !errors.Is(errs[0], own) || !errors.Is(errs[1], own) {
		t.Errorf("%v", errs)
	}
	if got := value(t, s, "a"); got != "1" {
		t.Errorf("a is %s", got)
	}
}

// Whoever gives up while he waits has written nothing; whose context ends while he writes has not either.
func TestGroupContexts(t *testing.T) {
	s := opened(t)
	ctx, cancel := context.WithCancel(t.Context())
	inside, cancelInside := context.WithCancel(t.Context())
	left := make(chan error, 2)
	started, proceed := make(chan struct{}), make(chan struct{})
	go func() {
		left <- s.Update(t.Context(), func(store.Writer) error { close(started); <-proceed; return nil })
	}()
	<-started
	go func() { left <- s.Update(ctx, set("a", "1")) }()
	for waiting := 0; waiting == 0; time.Sleep(100 * time.Microsecond) {
		s.mu.Lock()
		waiting = len(s.line)
		s.mu.Unlock()
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	close(proceed)
	if err := <-left; err != nil {
		t.Error(err)
	}
	var err error
	together(t, s, set("b", "1"), func(store.Writer) error { return nil })
	err = s.Update(inside, func(w store.Writer) error { cancelInside(); return set("c", "1")(w) })
	if !errors.Is(err, context.Canceled) || value(t, s, "a") != "-" || value(t, s, "b") != "1" || value(t, s, "c") != "-" {
		t.Errorf("%v: a %s, b %s, c %s", err, value(t, s, "a"), value(t, s, "b"), value(t, s, "c"))
	}
}

// Many at once, some of which fail: what is counted is what was told to have been written.
func TestGroupCounts(t *testing.T) {
	s := opened(t)
	var good atomic.Int64
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 40 {
				err := s.Update(t.Context(), func(w store.Writer) error {
					have, err := w.Get("t", []byte("n"))
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						return err
					}
					if err := w.Put("t", []byte("n"), append(append([]byte(nil), have...), 'x')); err != nil {
						return err
					}
					if (i+n)%5 == 0 {
						return errors.New("no")
					}
					return nil
				})
				if err == nil {
					good.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := len(value(t, s, "n")); int64(n) != good.Load() || n != 16*40*4/5 {
		t.Errorf("%d are written, %d were told so", n, good.Load())
	}
}

// BenchmarkUpdates is how fast small writes are made durable when many write at once.
func BenchmarkUpdates(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "db"), nil)
	if err != nil {
		b.Fatal(err)
	}
	var n atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			key := fmt.Appendf(nil, "%d", n.Add(1)%10000)
			if err := s.Update(context.Background(), func(w store.Writer) error { return w.Put("t", key, make([]byte, 500)) }); err != nil {
				b.Fatal(err)
			}
		}
	})
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// A key is the caller's to use again once it was put.
func TestGroupUndoesKeysThatChanged(t *testing.T) {
	s := opened(t)
	own := errors.New("own")
	errs := together(t, s, set("a", "1"), func(w store.Writer) error {
		key := []byte("b")
		if err := w.Put("t", key, []byte("2")); err != nil {
			return err
		}
		key[0] = 'a'
		return own
	})
	if errs[0] != nil || !errors.Is(errs[1], own) || value(t, s, "a") != "1" || value(t, s, "b") != "-" {
		t.Errorf("%v; a is %q, b is %q", errs, value(t, s, "a"), value(t, s, "b"))
	}
}
