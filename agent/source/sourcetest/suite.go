// Package sourcetest holds what tests of sources, and of their users, need: the conformance suite that every source passes,
// a source in memory, a wrapper that makes faults, and real loop devices.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"sync"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source"
)

// Made is a source that a Harness made, and the means to do to it what hosts do to disks. A nil function: this kind of source
// cannot have that done to it.
type Made struct {
	Source source.Source
	// Resize sets the size in bytes. What is added reads as zeros.
	Resize func(size int64) error
	// Replace puts something else in the source's place, so that the Source, or a pass over it that is open, must say ErrVanished.
	Replace func() error
	// Remove takes it away.
	Remove func() error
}

// Harness tells the suite how to make sources.
type Harness struct {
	// New makes a source that holds image, and cleans up through t. Twice the same t and image give distinct sources.
	New func(t *testing.T, image []byte) Made
	// SizeStep is what sizes are a multiple of; 0 means 1.
	SizeStep int
	// Sparse says that runs of at least 1 MiB of zeros are reported as holes.
	Sparse bool
}

// Run checks that a source keeps the promises of source.Source and source.Reader.
func Run(t *testing.T, h Harness) {
	step := max(h.SizeStep, 1)
	size := (4<<20 + 12345) / step * step
	image := make([]byte, size)
	fill(image[:1<<20], 1)
	fill(image[3<<20:], 2) // and 2 MiB of zeros between
	ctx := context.Background()

	open := func(t *testing.T, s source.Source) source.Reader {
		t.Helper()
		r, err := s.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}

	t.Run("identity", func(t *testing.T) {
		a, b := h.New(t, image).Source, h.New(t, image).Source
		if !regexp.MustCompile(`^[a-z0-9._:-]{1,160}$`).MatchString(a.ID()) {
			t.Errorf("id %q is not of the form that Source.ID promises", a.ID())
		}
		if a.ID() == b.ID() {
			t.Errorf("two sources have the id %s", a.ID())
		}
		if n := a.Name(); n == "" || len(n) > 255 {
			t.Errorf("name %q", n)
		}
		if k := a.Kind(); k != source.Disk && k != source.File {
			t.Errorf("kind %q", k)
		}
	})

	t.Run("reads any range", func(t *testing.T) {
		s := h.New(t, image).Source
		r := open(t, s)
		if n, err := s.Size(ctx); err != nil || n != int64(size) || r.Size() != n {
			t.Fatalf("Size %d, %v; reader %d; want %d", n, err, r.Size(), size)
		}
		if a := r.Align(); a < 1 || a&(a-1) != 0 {
			t.Fatalf("Align %d is no power of two", a)
		}
		buf := source.AlignedBuffer(size + 8192)
		check(t, r, image, buf[:size], 0)
		check(t, r, image, buf, 0)
		a := r.Align()
		check(t, r, image, buf[:64*a], int64(a))
		check(t, r, image, buf[1:64*a+1], int64(a)) // the buffer is off
		check(t, r, image, buf[:64*a-1], int64(a))  // the length is off
		check(t, r, image, buf[:64*a], int64(a)+1)  // the offset is off
		check(t, r, image, buf[:8192], int64(size)-100)
		check(t, r, image, buf[:1], int64(size)-1)
		check(t, r, image, buf[:1], int64(size))
		check(t, r, image, buf[:1], int64(size)+1<<30)
		rng := rand.New(rand.NewPCG(3, 4))
		for range 200 {
			off, from := rng.IntN(size), rng.IntN(4096)
			n := 1 + rng.IntN(1<<rng.IntN(21))
			check(t, r, image, buf[from:min(from+n, len(buf))], int64(off))
		}
		if _, err := r.ReadAt(buf[:1], -1); !isReadError(err) {
			t.Errorf("a negative offset gives %v", err)
		}
	})

	t.Run("reads by many", func(t *testing.T) {
		r := open(t, h.New(t, image).Source)
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for w := range errs {
			wg.Go(func() {
				buf := source.AlignedBuffer(64 << 10)
				for off := w * 1000; off+len(buf) <= size; off += 4 * 16 << 10 {
					if _, err := r.ReadAt(buf, int64(off)); err != nil {
						errs[w] = err
						return
					}
					if !bytes.Equal(buf, image[off:][:len(buf)]) {
						errs[w] = fmt.Errorf("wrong bytes at %d", off)
						return
					}
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("reads many at once", func(t *testing.T) {
		r := open(t, h.New(t, image).Source)
		rng := rand.New(rand.NewPCG(5, 6))
		for _, n := range []int{0, 1, 2, 700} {
			pieces := make([]source.Piece, n)
			for i := range pieces {
				length := 4096
				if i%7 == 3 {
					length = rng.IntN(20000) // does not suit direct reads
				}
				pieces[i] = source.Piece{Off: rng.Int64N(int64(size-length)/4096+1) * 4096, P: source.AlignedBuffer(length)}
				if pieces[i].Off+int64(length) > int64(size) || i%11 == 5 {
					pieces[i].Off = int64(size - length)
				}
			}
			if err := source.ReadBatch(r, pieces); err != nil {
				t.Fatal(err)
			}
			for i, x := range pieces {
				if !bytes.Equal(x.P, image[x.Off:][:len(x.P)]) {
					t.Fatalf("piece %d of %d: wrong bytes at %d", i, n, x.Off)
				}
			}
		}
		one := source.Piece{Off: 0, P: source.AlignedBuffer(4096)}
		beyond := source.Piece{Off: int64(size) &^ 4095, P: source.AlignedBuffer(8192)}
		for _, pieces := range [][]source.Piece{{beyond}, {one, beyond}} {
			if err := source.ReadBatch(r, pieces); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d pieces, one of them past the end: %v", len(pieces), err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := source.ReadBatch(r, []source.Piece{one, one}); !errors.Is(err, os.ErrClosed) || !isReadError(err) {
			t.Errorf("read after close gives %v", err)
		}
	})

	t.Run("finds all data", func(t *testing.T) {
		r := open(t, h.New(t, image).Source)
		got := make([]byte, size)
		var end, skipped int64
		for {
			start, stop, err := r.NextData(end)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if start < end || stop <= start || stop > int64(size) {
				t.Fatalf("NextData(%d) = [%d, %d) of %d", end, start, stop, size)
			}
			skipped += start - end
			if n, err := r.ReadAt(got[start:stop], start); err != nil {
				t.Fatalf("read %d of [%d, %d): %v", n, start, stop, err)
			}
			end = stop
		}
		if !bytes.Equal(got, image) {
			t.Error("what NextData leaves out is not all zeros")
		}
		if h.Sparse && skipped < 1<<20 {
			t.Errorf("skipped %d bytes; the hole is 2 MiB", skipped)
		}
		if _, _, err := r.NextData(int64(size) + 5); !errors.Is(err, io.EOF) {
			t.Errorf("NextData beyond the end gives %v, want io.EOF", err)
		}
		if start, _, err := r.NextData(1234); err != nil || start != 1234 {
			t.Errorf("NextData inside data gives %d, %v", start, err)
		}
	})

	t.Run("is closed", func(t *testing.T) {
		r, err := h.New(t, image).Source.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) || !isReadError(err) {
			t.Errorf("read after close gives %v", err)
		}
	})

	t.Run("heeds the context", func(t *testing.T) {
		s := h.New(t, image).Source
		done, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Size(done); !errors.Is(err, context.Canceled) {
			t.Errorf("Size gives %v", err)
		}
		if _, err := s.Open(done); !errors.Is(err, context.Canceled) {
			t.Errorf("Open gives %v", err)
		}
	})

	t.Run("changes", func(t *testing.T) { runChanges(t, h, image, open) })
}

func runChanges(t *testing.T, h Harness, image []byte, open func(*testing.T, source.Source) source.Reader) {
	ctx := context.Background()
	size := int64(len(image))
	t.Run("grows", func(t *testing.T) {
		m := h.New(t, image)
		if m.Resize == nil {
			return
		}
		r := open(t, m.Source)
		if err := m.Resize(size + 1<<20); err != nil {
			t.Fatal(err)
		}
		check(t, r, image, make([]byte, 8192), size-4096) // the pass keeps its size
		if n, err := m.Source.Size(ctx); err != nil || n != size+1<<20 {
			t.Errorf("Size %d, %v; want %d", n, err, size+1<<20)
		}
		if r := open(t, m.Source); r.Size() != size+1<<20 {
			t.Errorf("a new pass has %d bytes, want %d", r.Size(), size+1<<20)
		}
	})
	t.Run("shrinks", func(t *testing.T) {
		m := h.New(t, image)
		if m.Resize == nil {
			return
		}
		r := open(t, m.Source)
		if err := m.Resize(2 << 20); err != nil {
			t.Fatal(err)
		}
		check(t, r, image, make([]byte, 4096), 0)
		n, err := r.ReadAt(source.AlignedBuffer(1<<20), 3<<20)
		if !errors.Is(err, source.ErrShrunk) || !isReadError(err) {
			t.Errorf("a read beyond the new end gives %d, %v; want ErrShrunk", n, err)
		}
		buf := source.AlignedBuffer(1 << 20)
		if n, err := r.ReadAt(buf, 3<<19); !errors.Is(err, source.ErrShrunk) {
			t.Errorf("a read over the new end gives %d, %v; want ErrShrunk", n, err)
		} else if e := new(source.ReadError); !errors.As(err, &e) || e.Offset != 3<<19+int64(n) || e.Source != m.Source.Name() {
			t.Errorf("the error is %+v after %d bytes", e, n)
		}
		if _, _, err := r.NextData(0); !errors.Is(err, source.ErrShrunk) {
			t.Errorf("NextData gives %v, want ErrShrunk", err)
		}
		if n, err := m.Source.Size(ctx); err != nil || n != 2<<20 {
			t.Errorf("Size %d, %v", n, err)
		}
	})
	for name, change := range map[string]func(Made) func() error{
		"is replaced": func(m Made) func() error { return m.Replace },
		"is removed":  func(m Made) func() error { return m.Remove },
	} {
		t.Run(name, func(t *testing.T) {
			m := h.New(t, image)
			act := change(m)
			if act == nil {
				return
			}
			r := open(t, m.Source)
			if err := act(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.NextData(0); !errors.Is(err, source.ErrVanished) || !isReadError(err) {
				t.Errorf("NextData gives %v, want ErrVanished", err)
			}
			if name == "is removed" {
				if _, err := m.Source.Open(ctx); !errors.Is(err, source.ErrVanished) {
					t.Errorf("Open gives %v, want ErrVanished", err)
				}
				if _, err := m.Source.Size(ctx); !errors.Is(err, source.ErrVanished) {
					t.Errorf("Size gives %v, want ErrVanished", err)
				}
			}
		})
	}
}

// check compares one ReadAt with the image.
func check(t *testing.T, r io.ReaderAt, image, buf []byte, off int64) {
	t.Helper()
	clear(buf)
	var want []byte
	if off < int64(len(image)) {
		want = image[off:min(int64(len(image)), off+int64(len(buf)))]
	}
	n, err := r.ReadAt(buf, off)
	if n != len(want) || !bytes.Equal(buf[:n], want) {
		t.Fatalf("read %d bytes at %d: got %d bytes, or wrong ones (%v)", len(buf), off, n, err)
	}
	if full := n == len(buf); (full && err != nil && err != io.EOF) || (!full && err != io.EOF) {
		t.Fatalf("read %d bytes at %d of %d: %d bytes and %v", len(buf), off, len(image), n, err)
	}
}

func isReadError(err error) bool {
	e := new(source.ReadError)
	return errors.As(err, &e)
}

func fill(b []byte, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, seed))
	for i := range b {
		b[i] = byte(rng.Uint32() | 1)
	}
}
