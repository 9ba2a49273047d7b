package track_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/openmigrate/openmigrate/agent/track"
)

// TestMarks compares a set with a plain array of booleans.
func TestMarks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		const grain = 4096
		size := r.Int64N(500*grain) + 1
		if r.IntN(4) == 0 { // with parts in which nothing is marked
			size *= 100
		}
		m, plain := track.NewMarks(size, grain), make([]bool, (size+grain-1)/grain)
		for range r.IntN(12) {
			off, n := r.Int64N(size+grain), r.Int64N(90*grain)
			m.Add(off, n)
			for i := off / grain; n > 0 && i*grain < off+n && i < int64(len(plain)) && off < size; i++ {
				plain[i] = true
			}
		}
		if r.IntN(2) == 0 {
			o := track.NewMarks(size, grain)
			o.Add(0, 1)
			m.Union(o)
			plain[0] = true
		}
		var bytes int64
		got := make([]bool, len(plain))
		for off := int64(0); ; {
			start, end, err := m.Next(off)
			if errors.Is(err, io.EOF) {
				break
			}
			if start < off || end <= start || end > size || start%grain != 0 {
				t.Fatalf("size %d: range %d to %d after %d", size, start, end, off)
			}
			for i := start / grain; i*grain < end; i++ {
				got[i] = true
			}
			bytes += end - start
			off = end
		}
		for i := range plain {
			if plain[i] != got[i] {
				t.Fatalf("size %d: grain %d is %v, want %v", size, i, got[i], plain[i])
			}
		}
		again := track.NewMarks(size, grain)
		for i := range m.Words() {
			again.AddWord(i, m.Word(i))
		}
		if again.Bytes() != bytes {
			t.Fatalf("size %d: by words %d bytes, want %d", size, again.Bytes(), bytes)
		}
		if m.Bytes() != bytes {
			t.Fatalf("size %d: %d bytes, want %d", size, m.Bytes(), bytes)
		}
	}
}

func TestMarksNextWithin(t *testing.T) {
	m := track.NewMarks(1<<20, 4096)
	m.Add(8192, 8192)
	if start, end, err := m.Next(9000); err != nil || start != 9000 || end != 16384 {
		t.Errorf("%d to %d, %v", start, end, err)
	}
}

// TestMarksEnd: what lies behind the end of the disk is not marked.
func TestMarksEnd(t *testing.T) {
	m := track.NewMarks(70*4096+1, 4096)
	m.AddWord(0, 0)
	m.AddWord(1, ^uint64(0))
	if got, want := m.Word(1), uint64(1<<7-1); got != want || m.Word(0) != 0 {
		t.Errorf("words %x %x, want 0 %x", m.Word(0), got, want)
	}
	if got := m.Bytes(); got != 6*4096+1 {
		t.Errorf("%d bytes, want %d", got, 6*4096+1)
	}
}
