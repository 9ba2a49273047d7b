package chunker

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"lukechampine.com/blake3/guts"
)

// BlockHash is what BLAKE3 keeps of one block of a chunk: the chaining value of the subtree over it, which depends on the block's place.
// A chunk's ID is the root over its block hashes, so it can be made anew of those that changed, and hashes that do not lead to
// the ID are not of that chunk. (BLAKE3 specification, 2.1 and 5.1: a chunk of 2ⁿ KiB is a complete binary tree, of which each aligned
// 4 KiB is a complete subtree.)
type BlockHash [IDSize]byte

// BlockHasher makes the IDs of chunks of one size out of the hashes of their blocks. It belongs to one goroutine.
type BlockHasher struct {
	key  [8]uint32
	buf  [guts.MaxSIMD * guts.ChunkSize]byte
	zero []BlockHash // of a chunk of zeros
	tree []BlockHash // scratch
}

// NewBlockHasher makes a BlockHasher for chunks of chunkSize bytes, a power of two from MinSize to MaxSize.
func NewBlockHasher(key *Key, chunkSize int) *BlockHasher {
	if chunkSize < MinSize || chunkSize > MaxSize || bits.OnesCount(uint(chunkSize)) != 1 {
		panic(fmt.Sprintf("chunker: no blocks of chunks of %d bytes", chunkSize))
	}
	h := &BlockHasher{key: words((*BlockHash)(key)), zero: make([]BlockHash, chunkSize/BlockSize), tree: make([]BlockHash, chunkSize/BlockSize)}
	var block [BlockSize]byte
	for i := range h.zero {
		h.zero[i] = h.Block(i, block[:])
	}
	return h
}

// Blocks is how many blocks a chunk has.
func (h *BlockHasher) Blocks() int { return len(h.zero) }

// Block hashes block i of a chunk. content has BlockSize bytes.
func (h *BlockHasher) Block(i int, content []byte) BlockHash {
	copy(h.buf[:BlockSize], content[:BlockSize])
	n := guts.CompressBuffer(&h.buf, BlockSize, &h.key, uint64(i)*(BlockSize/guts.ChunkSize), guts.FlagKeyedHash)
	return unwords(guts.ChainingValue(n))
}

// All hashes every block of a chunk into dst.
func (h *BlockHasher) All(dst []BlockHash, content []byte) {
	for i := range h.zero {
		dst[i] = h.Block(i, content[i*BlockSize:(i+1)*BlockSize])
	}
}

// ID is the ID of the chunk whose blocks have these hashes: what Hasher.ID makes of its content.
func (h *BlockHasher) ID(hashes []BlockHash) ID {
	if slices.Equal(hashes, h.zero) {
		return Zero
	}
	t := h.tree[:copy(h.tree, hashes)]
	for len(t) > 2 {
		for i := range len(t) / 2 {
			left, right := words(&t[2*i]), words(&t[2*i+1])
			t[i] = unwords(guts.ChainingValue(guts.ParentNode(left, right, &h.key, guts.FlagKeyedHash)))
		}
		t = t[:len(t)/2]
	}
	root := guts.ParentNode(words(&t[0]), words(&t[1]), &h.key, guts.FlagKeyedHash)
	root.Flags |= guts.FlagRoot
	out := guts.CompressNode(root)
	return ID(unwords([8]uint32(out[:8])))
}

func words(b *BlockHash) (w [8]uint32) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return w
}

func unwords(w [8]uint32) (b BlockHash) {
	for i, v := range w {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	return b
}
