package freespace

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
)

// hiding is a source whose passes hide ranges.
type hiding struct {
	source.Source
	free Ranges
}

func (h hiding) Open(ctx context.Context) (source.Reader, error) {
	r, err := h.Source.Open(ctx)
	if err != nil {
		return nil, err
	}
	return Hide(r, h.free), nil
}

// The suite's image is zero from 1 MiB to 3 MiB.
func TestHideKeepsThePromisesOfReaders(t *testing.T) {
	for name, free := range map[string]Ranges{
		"nothing": nil,
		"zeros":   {{miB, 2 * miB}},
		"small":   {{miB, miB + Grain}, {miB + 3*Grain, miB + 8*Grain}, {3*miB - Grain, 3 * miB}},
	} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Harness{New: func(_ *testing.T, image []byte) sourcetest.Made {
				id++
				m := sourcetest.NewMemory("m"+string(rune('a'+id%26)), image)
				return sourcetest.Made{Source: hiding{m, free}, Resize: m.Resize, Remove: m.Remove}
			}, Sparse: true})
		})
	}
}

var id int

func openHidden(t *testing.T, s source.Source, free Ranges) source.Reader {
	t.Helper()
	r, err := hiding{s, free}.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestHide(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	image := make([]byte, 2*miB+777)
	for i := range image {
		image[i] = byte(rng.Uint32() | 1)
	}
	var free Ranges
	want := bytes.Clone(image)
	for at := int64(0); ; {
		start := at + (1+rng.Int64N(1<<rng.IntN(6)))*Grain
		at = start + (1+rng.Int64N(1<<rng.IntN(7)))*Grain
		if at > int64(len(image)) {
			break
		}
		free = append(free, Range{start, at})
		clear(want[start:at])
	}
	if len(free) < 10 {
		t.Fatalf("only %d ranges", len(free))
	}
	r := openHidden(t, sourcetest.NewMemory("m", image), free)
	for range 500 {
		off := rng.IntN(len(image))
		p := make([]byte, 1+rng.IntN(1<<rng.IntN(21)))
		for i := range p {
			p[i] = 0xaa
		}
		n, err := r.ReadAt(p, int64(off))
		if whole := min(len(p), len(image)-off); n != whole || !bytes.Equal(p[:n], want[off:off+n]) {
			t.Fatalf("read %d at %d: %d bytes, or wrong ones (%v)", len(p), off, n, err)
		}
		if (n < len(p)) != errors.Is(err, io.EOF) {
			t.Fatalf("read %d at %d: %d and %v", len(p), off, n, err)
		}
	}
	got := make([]byte, len(image))
	for end := int64(0); ; {
		start, stop, err := r.NextData(end)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || start < end || stop <= start {
			t.Fatalf("NextData(%d) = %d, %d, %v", end, start, stop, err)
		}
		for _, f := range free {
			if f.Len() >= minSkip && max(f.Start, start) < min(f.End, stop) {
				t.Fatalf("NextData(%d) = %d, %d has free %v in it", end, start, stop, f)
			}
		}
		if _, err := r.ReadAt(got[start:stop], start); err != nil {
			t.Fatal(err)
		}
		end = stop
	}
	if !bytes.Equal(got, want) {
		t.Error("a pass over all data gives other bytes")
	}
}

func TestHideDoesNotReadWhatIsFree(t *testing.T) {
	faulty := &sourcetest.Faulty{Source: sourcetest.NewMemory("m", bytes.Repeat([]byte{1}, 2*miB))}
	touched := int64(0)
	faulty.OnRead(func(off int64, length int) {
		if off < miB && off+int64(length) > miB/2 {
			touched++
		}
	})
	r := openHidden(t, faulty, Ranges{{miB / 2, miB}})
	p := make([]byte, 256<<10)
	for off := int64(0); off < 2*miB; off += int64(len(p)) {
		if _, err := r.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	if touched != 0 || faulty.Reads() != 6 {
		t.Errorf("%d reads of free bytes, %d in all; want 0 and 6", touched, faulty.Reads())
	}
}

func TestHideForgivesBadBlocksThatAreFree(t *testing.T) {
	faulty := &sourcetest.Faulty{Source: sourcetest.NewMemory("m", bytes.Repeat([]byte{1}, miB))}
	r := openHidden(t, faulty, Ranges{{8 * Grain, 10 * Grain}})
	faulty.FailReads(9*Grain, 512, -1, unix.EIO)
	p := make([]byte, 64<<10)
	if n, err := r.ReadAt(p, 0); n != len(p) || err != nil {
		t.Fatalf("a bad block that is free: %d, %v", n, err)
	}
	want := bytes.Repeat([]byte{1}, len(p))
	clear(want[8*Grain : 10*Grain])
	if !bytes.Equal(p, want) {
		t.Error("wrong bytes around the bad block")
	}
	faulty.FailReads(12*Grain, 512, -1, unix.EIO)
	n, err := r.ReadAt(p, 0)
	var re *source.ReadError
	if n != 12*Grain || !errors.As(err, &re) || re.Offset != 12*Grain || !errors.Is(err, unix.EIO) {
		t.Errorf("a bad block in use: %d, %v", n, err)
	}
	if !bytes.Equal(p[:n], want[:n]) {
		t.Error("wrong bytes before the bad block")
	}
	faulty.Vanish()
	if _, err := r.ReadAt(p[:Grain], 8*Grain); !errors.Is(err, source.ErrVanished) {
		t.Errorf("a source that vanished, read where it is free: %v", err)
	}
}
