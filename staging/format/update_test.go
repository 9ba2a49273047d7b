package format_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

type placed struct {
	level int
	index int64
}

// TestTreeUpdate compares updated trees with trees built anew.
func TestTreeUpdate(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	h := chunker.NewHasher(&chunker.Key{1})
	for _, chunks := range []int64{1, 63, 64, 65, 4096, 4097, 300_000} {
		ids := make([]chunker.ID, chunks)
		nodes := map[placed]chunker.ID{}
		for round := range 8 {
			dirty := map[int64]bool{}
			for range 1 + r.IntN(40) {
				i := r.Int64N(chunks)
				if round == 6 {
					i = 0
				}
				ids[i] = chunker.ID{}
				if r.IntN(4) > 0 && round < 7 {
					ids[i] = chunker.ID{byte(r.Uint32()), byte(round), 1}
				}
				dirty[i/format.Fanout] = true
			}
			if round == 7 { // all gone
				clear(ids)
				for i := range format.Nodes(chunks, 0) {
					dirty[i] = true
				}
			}
			leaves := make([]int64, 0, len(dirty))
			for i := range dirty {
				leaves = append(leaves, i)
			}
			slices.Sort(leaves)
			u := format.TreeUpdate{
				Node: h, Chunks: chunks,
				Leaf: func(index int64, dst *[format.Fanout]chunker.ID) error {
					clear(dst[:])
					copy(dst[:], ids[index*format.Fanout:])
					return nil
				},
				Old: func(level int, first int64, dst []chunker.ID) error {
					for i := range dst {
						dst[i] = nodes[placed{level, first + int64(i)}]
					}
					return nil
				},
			}
			fresh := map[placed]chunker.ID{}
			u.Emit = func(level int, index int64, id chunker.ID, encoded []byte) error {
				if id.IsZero() != (encoded == nil) {
					t.Errorf("node %d/%d with id %s has %d bytes", level, index, id, len(encoded))
				}
				if encoded != nil && h.NonZeroID(encoded) != id {
					t.Errorf("node %d/%d is not named by its content", level, index)
				}
				fresh[placed{level, index}] = id
				return nil
			}
			root, err := u.Run(slices.Values(leaves))
			if err != nil {
				t.Fatal(err)
			}
			for p, id := range fresh {
				nodes[p] = id
			}
			whole := map[placed]chunker.ID{}
			b := format.NewTreeBuilder(h, chunks, func(level int, index int64, id chunker.ID, _ []byte) error {
				whole[placed{level, index}] = id
				return nil
			})
			for i, id := range ids {
				if err := b.Add(int64(i), id); err != nil {
					t.Fatal(err)
				}
			}
			want, err := b.Finish()
			if err != nil || root != want {
				t.Fatalf("%d chunks, round %d: root %s, want %s, %v", chunks, round, root, want, err)
			}
			for p, id := range nodes {
				if whole[p] != id {
					t.Fatalf("%d chunks, round %d: node %v is %s, want %s", chunks, round, p, id, whole[p])
				}
				if p.index >= format.Nodes(chunks, p.level) {
					t.Fatalf("%d chunks: node %v past the end", chunks, p)
				}
			}
		}
	}
}
