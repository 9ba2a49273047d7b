package files

import (
	"fmt"
	"io"
	"sort"
)

// Extent is a run of bytes of a file and where on the volume they are.
type Extent struct{ Logical, Physical, Length int64 }

// Content is the bytes of a file: those that stand in its inode, or extents in ascending order. What no extent covers is zeros.
type Content struct {
	d       *device
	size    int64
	inline  []byte
	extents []Extent
	end     int64 // logical, of the last extent
	meta    int   // blocks of the map that were read
}

// Size is in bytes.
func (c *Content) Size() int64 { return c.size }

// Data are the parts of the file that are not holes, inside of its size.
func (c *Content) Data() []Extent {
	if c.inline != nil {
		return []Extent{{0, 0, int64(len(c.inline))}}
	}
	out := make([]Extent, 0, len(c.extents))
	for _, e := range c.extents {
		if e.Logical < c.size {
			e.Length = min(e.Length, c.size-e.Logical)
			out = append(out, e)
		}
	}
	return out
}

// ReadAt implements io.ReaderAt.
func (c *Content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read a file at %d: negative offset", off)
	}
	if off >= c.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.size-off))
	if err := c.fill(p[:n], off); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c *Content) fill(p []byte, off int64) error {
	clear(p)
	if c.inline != nil {
		if off < int64(len(c.inline)) {
			copy(p, c.inline[off:])
		}
		return nil
	}
	end := off + int64(len(p))
	first := sort.Search(len(c.extents), func(i int) bool { return c.extents[i].Logical+c.extents[i].Length > off })
	for _, e := range c.extents[first:] {
		if e.Logical >= end {
			break
		}
		from, to := max(off, e.Logical), min(end, e.Logical+e.Length)
		if err := c.d.read(p[from-off:to-off], e.Physical+from-e.Logical); err != nil {
			return err
		}
	}
	return nil
}

// add takes the next extent. Extents ascend, do not overlap and lie inside the volume.
func (c *Content) add(e Extent) error {
	switch {
	case e.Length <= 0 || e.Logical < c.end || e.Logical > 1<<62 || e.Length > 1<<62:
		return corrupt("an extent of %d bytes at %d of a file, after %d", e.Length, e.Logical, c.end)
	case e.Physical < 0 || e.Physical > c.d.size || e.Length > c.d.size-e.Physical:
		return corrupt("an extent of %d bytes at %d of the volume", e.Length, e.Physical)
	case len(c.extents) >= maxExtents:
		return fmt.Errorf("%w: a file of more than %d extents", ErrUnsupported, maxExtents)
	}
	c.end = e.Logical + e.Length
	if n := len(c.extents); n > 0 {
		if l := &c.extents[n-1]; l.Logical+l.Length == e.Logical && l.Physical+l.Length == e.Physical {
			l.Length += e.Length
			return nil
		}
	}
	c.extents = append(c.extents, e)
	return nil
}

// block counts a block of the map.
func (c *Content) block() error {
	if c.meta++; c.meta > maxMeta {
		return fmt.Errorf("%w: a file whose map has more than %d blocks", ErrUnsupported, maxMeta)
	}
	return nil
}

// all reads a small file at once.
func (c *Content) all(limit int64) ([]byte, error) {
	if c.size > limit {
		return nil, corrupt("%d bytes where at most %d belong", c.size, limit)
	}
	b := make([]byte, c.size)
	return b, c.fill(b, 0)
}
