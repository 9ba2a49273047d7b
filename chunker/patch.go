package chunker

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
)

// BlockSize is the granularity of patches, in bytes. The last block of a chunk may be shorter.
const BlockSize = 4096

// MaxBlocks is how many blocks the largest chunk has.
const MaxBlocks = MaxSize / BlockSize

// ErrPatch: what was to become a patch can not be one: no block is marked, or one past the end of the chunk.
var ErrPatch = errors.New("not a patch")

// Blocks marks blocks of a chunk: bit i%64 of word i/64. The zero value marks none.
type Blocks [MaxBlocks / 64]uint64

// Set marks block i.
func (b *Blocks) Set(i int) { b[i/64] |= 1 << (i % 64) }

// Get reports whether block i is marked.
func (b *Blocks) Get(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// Count is the number of marked blocks.
func (b *Blocks) Count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// Union marks what o marks, too. Blocks that changed since an older chunk are the union of those that changed each time since.
func (b *Blocks) Union(o *Blocks) {
	for i := range b {
		b[i] |= o[i]
	}
}

// DiffBlocks marks the blocks in which two chunks of the same length differ.
func DiffBlocks(a, b []byte) (Blocks, error) {
	var m Blocks
	if len(a) != len(b) || len(a) > MaxSize {
		return m, fmt.Errorf("%w: chunks of %d and %d bytes", ErrPatch, len(a), len(b))
	}
	for i, off := 0, 0; off < len(a); i, off = i+1, off+BlockSize {
		if end := min(off+BlockSize, len(a)); !bytes.Equal(a[off:end], b[off:end]) {
			m.Set(i)
		}
	}
	return m, nil
}

// A patch of a chunk of raw bytes:
//
//	codec u8 of the blocks (Raw or Zstd), bitmap [⌈⌈raw ÷ 4096⌉ ÷ 8⌉] of the blocks that it holds, those blocks
//
// Bit i%8 of byte i/8 is block i. The blocks are back to back in ascending order, encoded together.

// patchHeader is the length of what precedes the blocks.
func patchHeader(raw int) int { return 1 + (blockCount(raw)+7)/8 }

func blockCount(raw int) int { return (raw + BlockSize - 1) / BlockSize }

// Each calls fn with the bounds of every marked block of a chunk of raw bytes, in ascending order.
func (b *Blocks) Each(raw int, fn func(start, end int)) {
	for w, word := range b {
		for ; word != 0; word &= word - 1 {
			start := (w*64 + bits.TrailingZeros64(word)) * BlockSize
			fn(start, min(start+BlockSize, raw))
		}
	}
}

// size is how many bytes the marked blocks of a chunk of raw bytes have. ErrPatch when none is marked, or one past the end.
func (b *Blocks) size(raw int) (int, error) {
	n, past := 0, false
	b.Each(raw, func(start, end int) {
		if start >= raw {
			past = true
		}
		n += end - start
	})
	if n == 0 || past {
		return 0, fmt.Errorf("%w: %d blocks of a chunk of %d bytes", ErrPatch, b.Count(), raw)
	}
	return n, nil
}

// EncodePatch encodes the marked blocks of content against a chunk of the same length from which it differs in no other block. The
// result is in dst's memory, grown if it must be; content is not kept. It is for the caller to compare its length with that of a
// full encoding. ErrPatch when no block is marked, or one past the end.
func (c *Compressor) EncodePatch(dst, content []byte, blocks *Blocks) ([]byte, error) {
	if len(content) > MaxSize {
		return nil, fmt.Errorf("%w: chunk of %d bytes", ErrPatch, len(content))
	}
	n, err := blocks.size(len(content))
	if err != nil {
		return nil, err
	}
	if cap(c.blocks) < n {
		c.blocks = make([]byte, 0, max(n, MinSize))
	}
	c.blocks = c.blocks[:0]
	blocks.Each(len(content), func(start, end int) { c.blocks = append(c.blocks, content[start:end]...) })
	return c.EncodeBlocks(dst, len(content), c.blocks, blocks)
}

// EncodeBlocks is EncodePatch for whoever has only the marked blocks: data is those, back to back in ascending order, of a chunk of raw bytes.
// ErrPatch also when they are of another length.
func (c *Compressor) EncodeBlocks(dst []byte, raw int, data []byte, blocks *Blocks) ([]byte, error) {
	n, err := blocks.size(raw)
	if err != nil {
		return nil, err
	}
	if n != len(data) || raw > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes of blocks that have %d", ErrPatch, len(data), n)
	}
	header := patchHeader(raw)
	dst = append(dst[:0], byte(Raw))
	for i := range header - 1 {
		dst = append(dst, byte(blocks[i/8]>>(8*(i%8))))
	}
	if incompressible(data) {
		return append(dst, data...), nil
	}
	dst = c.e.EncodeAll(data, dst)
	if len(dst)-header > n-n/32 {
		return append(dst[:header], data...), nil
	}
	dst[0] = byte(Zstd)
	return dst, nil
}

// ApplyPatch makes a chunk out of another one of the same length, base, and what EncodePatch made, in dst's memory where it has room. dst must
// not overlap base. ErrEncoding for a patch of any other form: a bit past the end, no bit at all, blocks of another length. Nothing
// is written past len(base) bytes of dst.
func (d *Decompressor) ApplyPatch(dst, base, patch []byte) ([]byte, error) {
	raw := len(base)
	header := patchHeader(raw)
	if raw == 0 || raw > MaxSize || len(patch) <= header {
		return nil, fmt.Errorf("%w: patch of %d bytes for a chunk of %d", ErrEncoding, len(patch), raw)
	}
	var blocks Blocks
	for i, b := range patch[1:header] {
		blocks[i/8] |= uint64(b) << (8 * (i % 8))
	}
	n, err := blocks.size(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	rest, err := d.Decompress(d.blocks, Codec(patch[0]), patch[header:], n)
	if err != nil {
		return nil, fmt.Errorf("blocks of a patch: %w", err)
	}
	d.blocks = rest
	dst = append(dst[:0], base...)
	blocks.Each(raw, func(start, end int) { rest = rest[copy(dst[start:end], rest):] })
	return dst, nil
}
