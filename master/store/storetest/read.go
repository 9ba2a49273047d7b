package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/openmigrate/openmigrate/master/store"
)

func testGetPutDelete(t *testing.T, open Open) {
	s := opened(t, open)
	view(t, s, func(r store.Reader) error {
		if _, err := r.Get("no such table", []byte("k")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get from an unknown table: %v, want ErrNotFound", err)
		}
		return r.Scan("no such table", nil, nil, func(k, _ []byte) error {
			return fmt.Errorf("an unknown table has key %q", k)
		})
	})
	update(t, s, func(w store.Writer) error { return w.Delete("no such table", []byte("k")) })
	put(t, s, "a", "1", "b", "", "a", "2")
	update(t, s, func(w store.Writer) error { return w.Put("other", []byte("a"), []byte("3")) })
	view(t, s, func(r store.Reader) error {
		for _, want := range []struct{ table, key, value string }{{"t", "a", "2"}, {"t", "b", ""}, {"other", "a", "3"}} {
			v, err := r.Get(want.table, []byte(want.key))
			if err != nil || string(v) != want.value {
				t.Errorf("get %s/%s: %q, %v; want %q", want.table, want.key, v, err, want.value)
			}
		}
		if _, err := r.Get("t", []byte("aa")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get of an absent key: %v, want ErrNotFound", err)
		}
		return nil
	})
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.Delete("t", []byte("a")), w.Delete("t", []byte("absent")))
	})
	view(t, s, func(r store.Reader) error {
		if _, err := r.Get("t", []byte("a")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get after delete: %v, want ErrNotFound", err)
		}
		return nil
	})
}

func testOrder(t *testing.T, open Open) {
	s := opened(t, open)
	rnd := rand.New(rand.NewPCG(1, 2))
	var want []string
	for range 3000 {
		k := make([]byte, 1+rnd.IntN(12))
		for i := range k {
			k[i] = byte([]int{0, 1, 'a', 0x7f, 0x80, 0xff}[rnd.IntN(6)])
		}
		want = append(want, string(k))
	}
	for batch := range slices.Chunk(want, 500) {
		update(t, s, func(w store.Writer) error {
			for _, k := range batch {
				if err := w.Put("t", []byte(k), nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	slices.Sort(want)
	want = slices.Compact(want)
	view(t, s, func(r store.Reader) error {
		got, err := scan(r, nil, nil)
		if !slices.Equal(got, want) {
			t.Errorf("scan gave %d keys that are not the %d written in byte order", len(got), len(want))
		}
		return err
	})
}

func testScanRange(t *testing.T, open Open) {
	s := opened(t, open)
	put(t, s, "a", "", "ab", "", "ab\x00", "", "abc", "", "ab\xff", "", "ac", "", "b", "")
	for _, tt := range []struct {
		prefix, from string
		want         []string
	}{
		{"", "", []string{"a", "ab", "ab\x00", "abc", "ab\xff", "ac", "b"}},
		{"ab", "", []string{"ab", "ab\x00", "abc", "ab\xff"}},
		{"ab", "ab\x00", []string{"ab\x00", "abc", "ab\xff"}},
		{"ab", "ab\x01", []string{"abc", "ab\xff"}},
		{"ab", "a", []string{"ab", "ab\x00", "abc", "ab\xff"}},
		{"ab", "ac", nil},
		{"", "ab\xff\x00", []string{"ac", "b"}},
		{"x", "", nil},
		{"\xff", "", nil},
	} {
		view(t, s, func(r store.Reader) error {
			got, err := scan(r, []byte(tt.prefix), []byte(tt.from))
			if !slices.Equal(got, tt.want) {
				t.Errorf("scan prefix %q from %q: %q, want %q", tt.prefix, tt.from, got, tt.want)
			}
			return err
		})
	}
}

func testScanEnds(t *testing.T, open Open) {
	s := opened(t, open)
	put(t, s, "a", "", "b", "", "c", "")
	own := errors.New("own")
	view(t, s, func(r store.Reader) error {
		for _, end := range []error{store.ErrStop, fmt.Errorf("wrapped: %w", store.ErrStop), own} {
			n := 0
			err := r.Scan("t", nil, nil, func(_, _ []byte) error {
				n++
				if n == 2 {
					return end
				}
				return nil
			})
			if n != 2 {
				t.Errorf("scan called fn %d times, want 2", n)
			}
			if want := errors.Is(end, own); errors.Is(err, own) != want || (!want && err != nil) {
				t.Errorf("scan ended by %v returned %v", end, err)
			}
		}
		return nil
	})
}

func testScanInScan(t *testing.T, open Open) {
	s := opened(t, open)
	put(t, s, "a", "", "b", "", "c", "")
	view(t, s, func(r store.Reader) error {
		var got []string
		err := r.Scan("t", nil, nil, func(outer, _ []byte) error {
			return r.Scan("t", nil, outer, func(inner, _ []byte) error {
				got = append(got, string(outer)+string(inner))
				return nil
			})
		})
		if want := []string{"aa", "ab", "ac", "bb", "bc", "cc"}; !slices.Equal(got, want) {
			t.Errorf("a scan in a scan: %q, want %q", got, want)
		}
		return err
	})
}

// testWriteWhileScanning: an engine either allows it and the scan sees each key once, or refuses the write.
func testWriteWhileScanning(t *testing.T, open Open) {
	s := opened(t, open)
	var want []string
	update(t, s, func(w store.Writer) error {
		for i := range 2000 {
			k := fmt.Sprintf("%05d", i)
			want = append(want, k)
			if err := w.Put("t", []byte(k), make([]byte, 64)); err != nil {
				return err
			}
		}
		return nil
	})
	refused := false
	err := s.Update(t.Context(), func(w store.Writer) error {
		var got []string
		err := w.Scan("t", nil, nil, func(k, _ []byte) error {
			got = append(got, string(k))
			if err := w.Put("elsewhere", k, nil); err != nil {
				t.Errorf("put into another table while scanning: %v", err)
			}
			if err := w.Delete("t", []byte(string(k))); err != nil {
				refused = true
				return err
			}
			return nil
		})
		if !refused && !slices.Equal(got, want) {
			t.Errorf("a scan that deletes what it sees saw %d of %d keys", len(got), len(want))
		}
		return err
	})
	if refused != (err != nil) {
		t.Errorf("update: %v, refused: %v", err, refused)
	}
}
