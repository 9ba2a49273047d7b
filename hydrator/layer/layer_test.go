package layer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a disk; the first MiB is known to be zeros.
type memory struct {
	b   []byte
	bad error
}

func (m *memory) Number() int { return 3 }
func (m *memory) Size() int64 { return int64(len(m.b)) }
func (m *memory) ReadContext(_ context.Context, p []byte, off int64) (int, error) {
	if m.bad != nil {
		return 0, m.bad
	}
	return bytes.NewReader(m.b).ReadAt(p, off)
}

func (m *memory) Extent(_ context.Context, off, limit int64) (int64, bool, error) {
	if off < 1<<20 {
		return min(limit, 1<<20-off), true, nil
	}
	return min(limit, m.Size()-off), false, nil
}

func disk(t *testing.T, size int) *memory {
	t.Helper()
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(b[min(size, 1<<20):])
	return &memory{b: b}
}

func over(t *testing.T, below Disk, o *Options) *Layer {
	t.Helper()
	l, err := New(t.Context(), t.TempDir(), below, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// The layer reads as a plain copy of the disk would, whatever is written.
func TestLikeACopy(t *testing.T) {
	for _, size := range []int{3<<20 + 700, 5 << 20, 100, Block} {
		below := disk(t, size)
		before, want := bytes.Clone(below.b), bytes.Clone(below.b)
		l := over(t, below, nil)
		r := rand.New(rand.NewPCG(uint64(size), 1))
		for range 600 {
			off := r.IntN(size)
			n := r.IntN(min(size-off, 1+r.IntN(5*Block)) + 1)
			switch r.IntN(4) {
			case 0:
				off = off / Block * Block
				n = min(size-off, (1+n/Block)*Block)
			case 1:
				n = min(n, 100)
			}
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			if m, err := l.WriteAt(p, int64(off)); m != n || err != nil {
				t.Fatalf("write %d at %d: %d, %v", n, off, m, err)
			}
			copy(want[off:], p)
			at := r.IntN(size)
			got := make([]byte, r.IntN(6*Block)+1)
			m, err := l.ReadContext(t.Context(), got, int64(at))
			if !bytes.Equal(got[:m], want[at:min(size, at+len(got))]) || (err == nil) != (at+len(got) <= size) || err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("read %d at %d of %d: %d, %v", len(got), at, size, m, err)
			}
		}
		// What is said to be zeros is.
		for off := int64(0); off < int64(size); {
			n, zero, err := l.Extent(t.Context(), off, 1<<40)
			if err != nil || n <= 0 || off+n > int64(size) {
				t.Fatalf("extent at %d: %d, %v", off, n, err)
			}
			if zero && !bytes.Equal(want[off:off+n], make([]byte, n)) {
				t.Errorf("%d bytes at %d are not zeros", n, off)
			}
			off += n
		}
		if !bytes.Equal(below.b, before) {
			t.Error("the disk below was changed")
		}
		if l.Number() != 3 || l.Size() != int64(size) || l.Written() > int64(size)+Block {
			t.Errorf("disk %d of %d bytes, %d written", l.Number(), l.Size(), l.Written())
		}
	}
}

func TestBounds(t *testing.T) {
	below := disk(t, 4<<20)
	l := over(t, below, &Options{Limit: 10 * Block})
	for _, c := range []struct {
		n   int
		off int64
	}{{1, -1}, {1, 4 << 20}, {2, 4<<20 - 1}, {1, 1 << 62}} {
		if _, err := l.WriteAt(make([]byte, c.n), c.off); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%d bytes at %d: %v", c.n, c.off, err)
		}
	}
	if _, err := l.ReadContext(t.Context(), make([]byte, 1), -1); err == nil {
		t.Error("a negative offset is read")
	}
	if _, err := l.WriteAt(make([]byte, 10*Block), 2<<20); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{Block, 5} {
		if _, err := l.WriteAt(make([]byte, n), 3<<20); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d bytes beyond the limit: %v", n, err)
		}
	}
	if _, err := l.WriteAt([]byte("again"), 2<<20+7); err != nil {
		t.Errorf("where something was written before: %v", err)
	}
	if l.Written() != 10*Block {
		t.Errorf("%d bytes are written", l.Written())
	}
	below.bad = io.ErrUnexpectedEOF
	if _, err := l.WriteAt([]byte("part"), 3<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a part of a block that cannot be read: %v", err)
	}
	l.Freeze()
	for _, off := range []int64{2 << 20, 2<<20 + 1, 3 << 20} {
		if _, err := l.WriteAt(make([]byte, Block), off); !errors.Is(err, ErrFrozen) {
			t.Errorf("at %d after freezing: %v", off, err)
		}
	}
}

// Writers of different parts of one block do not lose each other's.
func TestManyWriters(t *testing.T) {
	below := disk(t, 2<<20)
	l := over(t, below, nil)
	const piece = 128
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for off := int64(w * piece); off < l.Size(); off += 8 * piece {
				if _, err := l.WriteAt(bytes.Repeat([]byte{byte(w + 1)}, piece), off); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got := make([]byte, l.Size())
	if _, err := l.ReadContext(t.Context(), got, 0); err != nil {
		t.Fatal(err)
	}
	for i, b := range got {
		if b != byte(i/piece%8+1) {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
	if l.Written() != l.Size() {
		t.Errorf("%d of %d bytes are counted", l.Written(), l.Size())
	}
}
