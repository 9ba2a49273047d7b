package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"github.com/openmigrate/openmigrate/master/store"
)

func testReadOwnWrites(t *testing.T, open Open) {
	s := opened(t, open)
	put(t, s, "a", "1", "c", "3")
	update(t, s, func(w store.Writer) error {
		if err := errors.Join(w.Put("t", []byte("b"), []byte("2")), w.Delete("t", []byte("c"))); err != nil {
			return err
		}
		keys, err := scan(w, nil, nil)
		if err != nil {
			return err
		}
		if len(keys) != 2 || keys[1] != "b" {
			t.Errorf("a transaction sees %q of its own writes, want a and b", keys)
		}
		if _, err := w.Get("t", []byte("c")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get of a key deleted in this transaction: %v", err)
		}
		return nil
	})
}

func testIsolation(t *testing.T, open Open) {
	s := opened(t, open)
	put(t, s, "a", "1")
	view(t, s, func(r store.Reader) error {
		done := make(chan error)
		go func() {
			done <- s.Update(t.Context(), func(w store.Writer) error {
				return errors.Join(w.Put("t", []byte("a"), []byte("2")), w.Put("t", []byte("b"), []byte("2")))
			})
		}()
		if err := <-done; err != nil {
			return err
		}
		v, err := r.Get("t", []byte("a"))
		if err != nil || string(v) != "1" {
			t.Errorf("a view saw %q, %v written after it began", v, err)
		}
		keys, err := scan(r, nil, nil)
		if len(keys) != 1 {
			t.Errorf("a view scanned %q written after it began", keys)
		}
		return err
	})
}

func testRollbackOnError(t *testing.T, open Open) {
	s := opened(t, open)
	put(t, s, "a", "1")
	own := errors.New("own")
	err := s.Update(t.Context(), func(w store.Writer) error {
		return errors.Join(w.Put("t", []byte("a"), []byte("2")), w.Put("new", []byte("b"), nil), own)
	})
	if !errors.Is(err, own) {
		t.Errorf("update returned %v, want the callback's error", err)
	}
	untouched(t, s)
}

func testRollbackOnPanic(t *testing.T, open Open) {
	s := opened(t, open)
	put(t, s, "a", "1")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.Update(t.Context(), func(w store.Writer) error {
			if err := w.Put("t", []byte("a"), []byte("2")); err != nil {
				return err
			}
			panic("own")
		})
	}()
	untouched(t, s)
	put(t, s, "b", "2") // and nothing is left locked
}

func testCancel(t *testing.T, open Open) {
	s := opened(t, open)
	put(t, s, "a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(w store.Writer) error {
		cancel()
		return w.Put("t", []byte("a"), []byte("2"))
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("update that was cancelled within returned %v", err)
	}
	if err := s.Update(ctx, func(store.Writer) error { t.Error("ran although cancelled"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("update after cancel: %v", err)
	}
	if err := s.View(ctx, func(store.Reader) error { t.Error("ran although cancelled"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view after cancel: %v", err)
	}
	untouched(t, s)
}

func testCancelWhileWaiting(t *testing.T, open Open) {
	s := opened(t, open)
	put(t, s, "a", "1")
	update(t, s, func(store.Writer) error {
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error)
		go func() {
			waited <- s.Update(ctx, func(store.Writer) error { return errors.New("ran beside another") })
		}()
		cancel()
		if err := <-waited; !errors.Is(err, context.Canceled) {
			t.Errorf("update that waited for another returned %v", err)
		}
		return nil
	})
}

// untouched checks that table "t" holds a=1 and nothing else.
func untouched(t *testing.T, s store.Store) {
	t.Helper()
	view(t, s, func(r store.Reader) error {
		v, err := r.Get("t", []byte("a"))
		if err != nil || string(v) != "1" {
			t.Errorf("after a rollback a is %q, %v; want 1", v, err)
		}
		keys, err := scan(r, nil, nil)
		if len(keys) != 1 {
			t.Errorf("after a rollback the table holds %q", keys)
		}
		return err
	})
}

func testConcurrentUpdates(t *testing.T, open Open) {
	const workers, rounds = 8, 25
	s := opened(t, open)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				err := s.Update(t.Context(), func(w store.Writer) error {
					var n uint64
					v, err := w.Get("t", []byte("counter"))
					switch {
					case err == nil:
						n = binary.BigEndian.Uint64(v)
					case !errors.Is(err, store.ErrNotFound):
						return err
					}
					return w.Put("t", []byte("counter"), binary.BigEndian.AppendUint64(nil, n+1))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(r store.Reader) error {
		v, err := r.Get("t", []byte("counter"))
		if err != nil {
			return err
		}
		if n := binary.BigEndian.Uint64(v); n != workers*rounds {
			t.Errorf("counter is %d after %d increments", n, workers*rounds)
		}
		return nil
	})
}

func testLargeValues(t *testing.T, open Open) {
	s := opened(t, open)
	big := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.Put("t", []byte("a"), big), w.Put("t", bytes.Repeat([]byte("k"), 1024), big[:1<<20]))
	})
	view(t, s, func(r store.Reader) error {
		v, err := r.Get("t", []byte("a"))
		if !bytes.Equal(v, big) {
			t.Errorf("a value of %d bytes came back as %d other bytes", len(big), len(v))
		}
		return err
	})
	size, err := s.Size()
	if err != nil || size < int64(len(big)) {
		t.Errorf("size is %d, %v after %d bytes were written", size, err, len(big))
	}
}
