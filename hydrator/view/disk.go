package view

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Disk is one disk of a View. It implements io.ReaderAt.
type Disk struct {
	v      *View
	d      *format.Disk
	layout chunker.Layout
	window int64 // chunks that one reader holds at once
	tree   tree
	ahead  ahead
}

func newDisk(v *View, d *format.Disk, window, readAhead int64) *Disk {
	chunk := int64(d.ChunkSize)
	return &Disk{
		v: v, d: d, layout: d.Layout(), window: max(1, window/chunk),
		tree:  tree{v: v, number: d.Number, root: d.Root, levels: format.Levels(d.Layout().Chunks())},
		ahead: ahead{limit: readAhead / chunk, chunks: d.Layout().Chunks()},
	}
}

// Number is the disk's in the restpoint, from 0.
func (d *Disk) Number() int { return d.d.Number }

// Name is what the source called the disk.
func (d *Disk) Name() string { return d.d.Name }

// Size is in bytes.
func (d *Disk) Size() int64 { return d.layout.Size }

// ReadAt is ReadContext without an end but the view's.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	return d.ReadContext(context.Background(), p, off)
}

// ReadContext fills p from off as io.ReaderAt does. What was fetched for a reader that gave up is kept for others.
// An error names the place; what cannot be read now may be readable later, unless it is that staging holds no usable copy.
func (d *Disk) ReadContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read disk %d at %d: negative offset", d.Number(), off)
	}
	if off >= d.Size() {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), d.Size()-off))
	chunk := int64(d.layout.ChunkSize)
	for n := 0; n < want; {
		at := off + int64(n)
		end := min(off+int64(want), (at/chunk+d.window)*chunk)
		m, err := d.readWindow(ctx, p[n:n+int(end-at)], at)
		n += m
		if err != nil {
			return n, fmt.Errorf("read disk %d at %d: %w", d.Number(), off+int64(n), err)
		}
	}
	if want < len(p) {
		return want, io.EOF
	}
	return want, nil
}

// readWindow reads what may be held in memory at once.
func (d *Disk) readWindow(ctx context.Context, p []byte, off int64) (n int, err error) {
	chunk := int64(d.layout.ChunkSize)
	first, last := off/chunk, (off+int64(len(p))-1)/chunk
	ids, err := d.tree.ids(ctx, first, last+1)
	if err != nil {
		return 0, err
	}
	d.readAhead(first, last)
	held, fresh, err := d.v.cache.hold(ctx, d.v.ctx, d.wants(first, ids))
	if err != nil {
		return 0, err
	}
	defer d.v.cache.release(held)
	d.v.fetch(fresh)
	byID := make(map[chunker.ID]*entry, len(held))
	for _, e := range held {
		byID[e.id] = e
	}
	for i, id := range ids {
		start, size := d.layout.Extent(first + int64(i))
		from := max(0, off-start)
		dst := p[n:min(len(p), n+size-int(from))]
		if id.IsZero() {
			clear(dst)
			n += len(dst)
			continue
		}
		e := byID[id]
		if err := e.wait(ctx); err != nil {
			return n, d.v.why(err)
		}
		if len(e.data) != size {
			return n, fmt.Errorf("%w: chunk %s has %d bytes, the place for it %d", format.ErrCorrupt, id, len(e.data), size)
		}
		n += copy(dst, e.data[from:])
	}
	return n, nil
}

// why prefers the reason why the view ended to what that did to a fetch.
func (v *View) why(err error) error {
	if v.ctx.Err() != nil && !errors.Is(err, context.Cause(v.ctx)) {
		return context.Cause(v.ctx)
	}
	return err
}

// wants are the chunks from first on that are not zero, each once.
func (d *Disk) wants(first int64, ids []chunker.ID) []want {
	wants := make([]want, 0, len(ids))
	seen := make(map[chunker.ID]bool, len(ids))
	for i, id := range ids {
		if id.IsZero() || seen[id] {
			continue
		}
		seen[id] = true
		_, n := d.layout.Extent(first + int64(i))
		wants = append(wants, want{id: id, index: first + int64(i), disk: d, size: n, takes: d.layout.ChunkSize})
	}
	return wants
}

// Extent says how many bytes from off on are all of one kind: known to be zeros, or not. It reads no chunks. It looks at most at limit bytes, and
// returns less than limit where the kind changes, the disk ends, or looking on would cost another request.
func (d *Disk) Extent(ctx context.Context, off, limit int64) (n int64, zero bool, err error) {
	if off < 0 || off >= d.Size() || limit <= 0 {
		return 0, false, io.EOF
	}
	chunk := int64(d.layout.ChunkSize)
	index := off / chunk
	chunks, zero, err := d.tree.run(ctx, index)
	if err != nil {
		return 0, false, fmt.Errorf("look at disk %d at %d: %w", d.Number(), off, err)
	}
	return min(limit, (index+chunks)*chunk-off, d.Size()-off), zero, nil
}
