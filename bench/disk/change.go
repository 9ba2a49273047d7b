package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// ChangeExtent is the length in bytes of what Change overwrites in one place.
const ChangeExtent = 64 << 10

// saved is what an extent held.
type saved struct {
	off     int64
	content []byte // nil: zeros
}

// Changes can be undone. They are kept in memory.
type Changes struct {
	path string
	was  []saved
}

// Bytes is how much was overwritten.
func (c *Changes) Bytes() int64 { return int64(len(c.was)) * ChangeExtent }

// Change overwrites bytes of a disk with incompressible data, in aligned extents of ChangeExtent that are spread at random over all
// of it, none twice. Seed decides which.
func Change(path string, size int64, seed uint64) (_ *Changes, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("change disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("change disk: %w", err)
	}
	places := info.Size() / ChangeExtent
	if size < 0 || size > info.Size() || places > 1<<31 {
		return nil, fmt.Errorf("change disk: %d bytes of %d", size, info.Size())
	}
	c := &Changes{path: path}
	random := rand.New(rand.NewPCG(seed, 1))
	content := NewContent(seed, 1<<32, false)
	buf := make([]byte, ChangeExtent)
	seen := make(map[int64]bool)
	for int64(len(c.was)) < size/ChangeExtent {
		place := random.Int64N(places)
		if seen[place] {
			continue
		}
		seen[place] = true
		old := saved{off: place * ChangeExtent, content: make([]byte, ChangeExtent)}
		if _, err := f.ReadAt(old.content, old.off); err != nil {
			return nil, fmt.Errorf("change disk: %w", err)
		}
		if bytes.Equal(old.content, zeros[:]) {
			old.content = nil
		}
		c.was = append(c.was, old)
		if _, err := io.ReadFull(content, buf); err != nil {
			return nil, fmt.Errorf("change disk: %w", err)
		}
		if _, err := f.WriteAt(buf, old.off); err != nil {
			return nil, fmt.Errorf("change disk: %w", err)
		}
	}
	return c, nil
}

var zeros [ChangeExtent]byte

// Undo puts back what was there. Zeros become holes.
func (c *Changes) Undo() (err error) {
	f, err := os.OpenFile(c.path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("undo changes: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, old := range c.was {
		if old.content == nil {
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, old.off, ChangeExtent)
		} else {
			_, err = f.WriteAt(old.content, old.off)
		}
		if err != nil {
			return fmt.Errorf("undo changes: %w", err)
		}
	}
	return nil
}

// Sparse makes a disk of size bytes that is all holes but for data bytes, in count pieces at even distances.
func Sparse(path string, size, data int64, count int, seed uint64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make sparse disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("make sparse disk: %w", err)
	}
	if count <= 0 {
		return nil
	}
	each, distance := data/int64(count), size/int64(count)
	buf := make([]byte, min(each, distance))
	for i := range count {
		if _, err := io.ReadFull(NewContent(seed, uint64(i), i%2 == 0), buf); err != nil {
			return fmt.Errorf("make sparse disk: %w", err)
		}
		if _, err := f.WriteAt(buf, int64(i)*distance&^4095); err != nil {
			return fmt.Errorf("make sparse disk: %w", err)
		}
	}
	return nil
}
