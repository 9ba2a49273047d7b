package state_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// TestRecordedTrees: over cycles in which chunks change, change back, are set twice, and the disk grows and shrinks, each tree is the one
// that a builder makes of all ids, and what it emits with what was emitted before is all that the tree needs.
func TestRecordedTrees(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	h := chunker.NewHasher(&chunker.Key{7})
	d := open(t, t.TempDir())
	defer func() { _ = d.Close() }()
	const size = chunker.MinSize
	ids := make([]chunker.ID, 5000)
	known := map[chunker.ID]bool{}
	last := ""
	for cycle := range 14 {
		switch cycle {
		case 4, 9:
			ids = append(ids, make([]chunker.ID, 3000)...)
		case 6:
			ids = ids[:len(ids)-6000]
		}
		b, err := state.OpenBase(d, "disk", last)
		if err != nil {
			t.Fatal(err)
		}
		if (b.Info() == nil) != (cycle == 0) {
			t.Fatalf("cycle %d: base %+v", cycle, b.Info())
		}
		layout := chunker.Layout{Size: int64(len(ids))*size - 100, ChunkSize: size}
		was := make([]chunker.ID, len(ids))
		if err := b.Read(0, was); err != nil {
			t.Fatal(err)
		}
		rec, err := b.Record(layout)
		if err != nil {
			t.Fatal(err)
		}
		held := ""
		for pass := range 3 {
			if pass == 2 && cycle%2 == 0 { // the disk with the record is frozen from here on
				if err := rec.Hold(); err != nil {
					t.Fatal(err)
				}
				held = rec.Written()
			}
			for range 1 + r.IntN(400) {
				i := r.Int64N(int64(len(ids)))
				for range 1 + r.IntN(3) {
					id := chunker.ID{byte(r.Uint32()), byte(cycle), byte(pass), 1}
					if r.IntN(5) == 0 {
						id = chunker.Zero
					}
					if i < int64(len(ids)) {
						ids[i] = id
						if err := rec.Set(i, id); err != nil {
							t.Fatal(err)
						}
					}
					i++
				}
			}
			got := make([]chunker.ID, 100)
			first := r.Int64N(int64(len(ids)))
			if err := rec.IDs(first, got); err != nil {
				t.Fatal(err)
			}
			for i := range got {
				var want chunker.ID
				if at := first + int64(i); at < int64(len(ids)) {
					want = ids[at]
				}
				if got[i] != want {
					t.Fatalf("cycle %d: chunk %d is %s, want %s", cycle, first+int64(i), got[i], want)
				}
			}
		}
		root, changed, err := rec.Tree(h, cycle == 11, func(id chunker.ID, encoded []byte) error {
			if h.NonZeroID(encoded) != id {
				return fmt.Errorf("node %s is not named by its content", id)
			}
			known[id] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		builder := format.NewTreeBuilder(h, layout.Chunks(), func(level int, index int64, id chunker.ID, _ []byte) error {
			if !known[id] {
				return fmt.Errorf("node %d/%d was never emitted", level, index)
			}
			return nil
		})
		var differs int64
		for i, id := range ids {
			if err := builder.Add(int64(i), id); err != nil {
				t.Fatal(err)
			}
			if id != was[i] {
				_, n := layout.Extent(int64(i))
				differs += int64(n)
			}
		}
		want, err := builder.Finish()
		if err != nil || root != want || changed != differs {
			t.Fatalf("cycle %d: root %s, want %s; %d bytes changed, want %d; %v", cycle, root, want, changed, differs, err)
		}
		if cycle%2 == 0 {
			if rec.Written() != held {
				t.Fatalf("cycle %d: something was written while it was held", cycle)
			}
			if err := rec.Release(); err != nil {
				t.Fatal(err)
			}
			if rec.Written() == held {
				t.Fatalf("cycle %d: nothing was written after the release", cycle)
			}
		}
		last = fmt.Sprint("r", cycle)
		if err := rec.Seal(&state.BaseInfo{Restpoint: last, Root: root, Size: layout.Size, ChunkSize: size}); err != nil {
			t.Fatal(err)
		}
		rec.Close()
		if cycle%3 > 0 { // else the next open settles it
			if err := b.Apply(); err != nil {
				t.Fatal(err)
			}
		}
		b.Close()
	}
}
