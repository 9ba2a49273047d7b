// Package chunker splits disks into fixed-size chunks and names, tests and compresses them. It keeps one invariant: an ID
// is the keyed BLAKE3-256 of exactly the bytes that are restored, so whoever holds the key can prove any chunk. It does no
// I/O. Hasher, Compressor and Decompressor belong to one goroutine each; everything else may be called by any.
package chunker

import (
	"errors"
	"fmt"
	"math/bits"
)

// Chunk sizes in bytes: powers of two.
const (
	MinSize     = 64 << 10
	MaxSize     = 4 << 20
	DefaultSize = 256 << 10 // up to largeDisk
	LargeSize   = 1 << 20   // above

	largeDisk = 4 << 40 // bytes
)

// MaxChunks limits the chunks of one disk: 64 TiB at 256 KiB, 1 PiB at 4 MiB.
const MaxChunks = 1 << 28

// ErrLayout marks a disk size or chunk size that is out of limits.
var ErrLayout = errors.New("disk layout out of limits")

// SizeFor returns the chunk size for a disk of that many bytes: 256 KiB up to 4 TiB, 1 MiB above. Smaller chunks cost
// index rows, larger ones cost more on the wire per random write.
func SizeFor(diskBytes int64) int {
	if diskBytes > largeDisk {
		return LargeSize
	}
	return DefaultSize
}

// CheckSize returns ErrLayout unless n is a power of two within the limits.
func CheckSize(n int) error {
	if n < MinSize || n > MaxSize || bits.OnesCount(uint(n)) != 1 {
		return fmt.Errorf("%w: chunk size %d: want a power of two from %d to %d", ErrLayout, n, MinSize, MaxSize)
	}
	return nil
}

// Layout is a disk of Size bytes in aligned chunks of ChunkSize bytes; the last one may be shorter.
type Layout struct {
	Size      int64
	ChunkSize int
}

// Check returns ErrLayout when l is out of limits.
func (l Layout) Check() error {
	if err := CheckSize(l.ChunkSize); err != nil {
		return err
	}
	if l.Size < 0 || l.Size > MaxChunks*int64(l.ChunkSize) {
		return fmt.Errorf("%w: %d bytes in chunks of %d: want 0 to %d chunks", ErrLayout, l.Size, l.ChunkSize, MaxChunks)
	}
	return nil
}

// Chunks is the number of chunks.
func (l Layout) Chunks() int64 {
	return (l.Size + int64(l.ChunkSize) - 1) / int64(l.ChunkSize)
}

// Extent is where chunk i lies: its offset and length in bytes. i is in [0, Chunks()).
func (l Layout) Extent(i int64) (off int64, n int) {
	off = i * int64(l.ChunkSize)
	return off, int(min(int64(l.ChunkSize), l.Size-off))
}
