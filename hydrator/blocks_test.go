package hydrator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/wire"
)

const blockSize = 512 << 10

// blockBox is a BlockSink that keeps everything.
type blockBox struct {
	t     *testing.T
	free  chan struct{}
	mu    sync.Mutex
	order []int64
	got   map[int64][]byte
}

func newBlockBox(t *testing.T, buffers int) *blockBox {
	return &blockBox{t: t, free: make(chan struct{}, buffers), got: map[int64][]byte{}}
}

func (b *blockBox) Buffers() int { return cap(b.free) }

func (b *blockBox) Reserve(ctx context.Context, index int64) ([]byte, func(), error) {
	select {
	case b.free <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	if n := len(b.order); n > 0 && b.order[n-1] >= index {
		b.t.Errorf("block %d after %d", index, b.order[n-1])
	}
	b.order = append(b.order, index)
	data := make([]byte, blockSize)
	return data, func() {
		b.mu.Lock()
		b.got[index] = data
		b.mu.Unlock()
		<-b.free
	}, nil
}

// over is what a disk holds after the blocks are written over old.
func (b *blockBox) over(old []byte, size int) []byte {
	n := (max(size, len(old)) + blockSize - 1) / blockSize * blockSize
	out := make([]byte, n)
	copy(out, old)
	for at, data := range b.got {
		copy(out[at*blockSize:], data)
	}
	return out
}

func padded(b []byte) []byte {
	return append(bytes.Clone(b), make([]byte, -len(b)&(blockSize-1))...)
}

// diskImage has runs of zeros and of noise.
func diskImage(seed uint64, size int) []byte {
	r := mrand.New(mrand.NewPCG(seed, 1))
	b := make([]byte, size)
	for at := 0; at < size; {
		n := min(size-at, (1+r.IntN(20))*64<<10)
		if r.IntN(2) == 0 {
			fillRandom(r, b[at:at+n])
		}
		at += n
	}
	return b
}

func blocksReader(t *testing.T, w *hydratortest.World, rp *hydratortest.Replicated) *reader.Reader {
	r, err := reader.New(w.Job(wire.JobHydrate, rp), w, &reader.Options{Buffers: 3, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func contentOf(rp *hydratortest.Replicated) journal.Content {
	d := rp.Restpoint.Disks[0]
	return journal.Content{Disk: d.ID, Size: d.Size, ChunkSize: d.ChunkSize, Root: d.Root}
}

func TestBlocks(t *testing.T) {
	for _, chunk := range []int{64 << 10, 256 << 10, 512 << 10, 2 << 20} {
		t.Run(fmt.Sprint(chunk>>10, "KiB"), func(t *testing.T) {
			w := hydratortest.NewWorld(t, nil)
			// The last block and the last chunk are not whole.
			a := diskImage(uint64(chunk), 9<<20+4096)
			first := w.Replicate(t, "r1", hydratortest.Image{Data: a, ChunkSize: chunk})
			box := newBlockBox(t, 16)
			d := &first.Restpoint.Disks[0]
			r := blocksReader(t, w, first)
			if err := Blocks(t.Context(), r, d, BlockRange{Size: blockSize}, box); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(box.over(nil, len(a)), padded(a)) {
				t.Error("the blocks of a first copy are not the disk")
			}
			zero := 0
			for at, data := range box.got {
				if at*blockSize < int64(len(a)) && bytes.Equal(data, make([]byte, blockSize)) {
					zero++
				}
			}
			if zero > 0 && chunk <= blockSize {
				t.Errorf("%d blocks of zeros", zero)
			}
			if n, err := CountBlocks(t.Context(), r, d, BlockRange{Size: blockSize}); err != nil || n != int64(len(box.got)) {
				t.Errorf("count %d, %v, want %d", n, err, len(box.got))
			}

			// Changes: single bytes, a block that becomes zeros, zeros that get content, and a disk that grows.
			b := append(bytes.Clone(a), make([]byte, 2<<20)...)
			rnd := mrand.New(mrand.NewPCG(7, uint64(chunk)))
			for range 6 {
				b[rnd.IntN(len(b))]++
			}
			clear(b[3<<20 : 5<<20])
			fillRandom(rnd, b[7<<20:7<<20+700])
			second := w.Replicate(t, "r2", hydratortest.Image{Data: b, ChunkSize: chunk})
			old := contentOf(first)
			for _, from := range []int64{0, 3, 11} {
				box := newBlockBox(t, 16)
				r := blocksReader(t, w, second)
				d := &second.Restpoint.Disks[0]
				br := BlockRange{Size: blockSize, Old: &old, From: from}
				if err := Blocks(t.Context(), r, d, br, box); err != nil {
					t.Fatal(err)
				}
				got, want := box.over(a, len(b)), padded(b)
				if !bytes.Equal(got[from*blockSize:], want[from*blockSize:]) {
					t.Errorf("from block %d: the difference does not lead to the newer disk", from)
				}
				for at, data := range box.got {
					prev := make([]byte, blockSize)
					if int(at*blockSize) < len(a) {
						copy(prev, a[at*blockSize:])
					}
					if edge := int64(len(a) / blockSize); at < from || at != edge && chunk <= blockSize && bytes.Equal(data, prev) { // the last chunk became longer
						t.Errorf("block %d is not needed", at)
					}
				}
				if n, err := CountBlocks(t.Context(), r, d, br); err != nil || n != int64(len(box.got)) {
					t.Errorf("count %d, %v, want %d", n, err, len(box.got))
				}
			}
		})
	}
}

func TestBlocksDamaged(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r1", hydratortest.Image{Data: diskImage(3, 8<<20)})
	w.Forget(rp.Chunks...)
	err := Blocks(t.Context(), blocksReader(t, w, rp), &rp.Restpoint.Disks[0], BlockRange{Size: blockSize}, newBlockBox(t, 16))
	if err == nil {
		t.Fatal("chunks are missing and nobody noticed")
	}
	// A tree that is gone is told apart.
	a := diskImage(5, 8<<20)
	first := w.Replicate(t, "r2", hydratortest.Image{Data: a})
	b := bytes.Clone(a)
	b[1<<20]++
	second := w.Replicate(t, "r3", hydratortest.Image{Data: b})
	w.Forget(first.Restpoint.Disks[0].Root)
	old := contentOf(first)
	err = Blocks(t.Context(), blocksReader(t, w, second), &second.Restpoint.Disks[0], BlockRange{Size: blockSize, Old: &old}, newBlockBox(t, 16))
	if !errors.Is(err, ErrOldTree) {
		t.Errorf("error %v, want %v", err, ErrOldTree)
	}
	old.ChunkSize *= 2
	if _, err := CountBlocks(t.Context(), blocksReader(t, w, second), &second.Restpoint.Disks[0], BlockRange{Size: blockSize, Old: &old}); !errors.Is(err, ErrOldTree) {
		t.Errorf("error %v, want %v", err, ErrOldTree)
	}
	w.Intercept(func(rw http.ResponseWriter, _ *http.Request) bool { rw.WriteHeader(http.StatusForbidden); return true })
	if err := Blocks(t.Context(), blocksReader(t, w, second), &second.Restpoint.Disks[0], BlockRange{Size: blockSize}, newBlockBox(t, 16)); err == nil {
		t.Error("the bucket refuses and nobody noticed")
	}
}
