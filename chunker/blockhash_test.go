package chunker_test

import (
	"math/rand/v2"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
)

// TestBlockHashes: an ID made of the hashes of blocks is the one that the other implementation of BLAKE3 makes of the content, also after only
// one block was hashed anew.
func TestBlockHashes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var key chunker.Key
	for i := range key {
		key[i] = byte(r.Uint32())
	}
	whole := chunker.NewHasher(&key)
	for size := chunker.MinSize; size <= chunker.MaxSize; size *= 2 {
		h := chunker.NewBlockHasher(&key, size)
		hashes := make([]chunker.BlockHash, h.Blocks())
		content := make([]byte, size)
		h.All(hashes, content)
		if id := h.ID(hashes); !id.IsZero() {
			t.Errorf("%d bytes of zeros have id %s", size, id)
		}
		for i := 0; i < size; i += 8 {
			content[i] = byte(r.Uint32())
		}
		h.All(hashes, content)
		for range 4 {
			if got, want := h.ID(hashes), whole.ID(content); got != want {
				t.Fatalf("%d bytes: id %s, want %s", size, got, want)
			}
			i := r.IntN(h.Blocks())
			block := content[i*chunker.BlockSize : (i+1)*chunker.BlockSize]
			block[r.IntN(len(block))]++
			hashes[i] = h.Block(i, block)
		}
		last := h.Blocks() - 1
		hashes[0], hashes[last] = hashes[last], hashes[0]
		if h.ID(hashes) == whole.ID(content) {
			t.Errorf("%d bytes: hashes in another order have the same id", size)
		}
	}
}

func BenchmarkBlockID(b *testing.B) {
	h := chunker.NewBlockHasher(new(chunker.Key), 256<<10)
	hashes := make([]chunker.BlockHash, h.Blocks())
	for b.Loop() {
		h.ID(hashes[:])
	}
}

func BenchmarkBlockHash(b *testing.B) {
	h := chunker.NewBlockHasher(new(chunker.Key), 256<<10)
	block := make([]byte, chunker.BlockSize)
	b.SetBytes(chunker.BlockSize)
	for b.Loop() {
		h.Block(1, block)
	}
}
