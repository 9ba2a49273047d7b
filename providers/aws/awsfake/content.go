package awsfake

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

// BlockSize is the direct APIs' (EBS/PutSnapshotBlock), and how content is kept here.
const BlockSize = 512 << 10

// ref is a block that never changes. The zero ref is zeros.
type ref struct {
	data []byte
	file string
}

// blockStore keeps blocks in memory, or each in a file. They are never removed: it is for tests, whose folders go.
type blockStore struct {
	dir  string
	next atomic.Int64
}

func (b *blockStore) put(data []byte) (ref, error) {
	if b.dir == "" {
		return ref{data: append([]byte(nil), data...)}, nil
	}
	r := ref{file: filepath.Join(b.dir, strconv.FormatInt(b.next.Add(1), 10))}
	return r, os.WriteFile(r.file, data, 0o600)
}

// read returns a block's bytes, which are not the caller's to change.
func (r ref) read() ([]byte, error) {
	switch {
	case r.file != "":
		return os.ReadFile(r.file)
	case r.data != nil:
		return r.data, nil
	}
	return zeros, nil
}

// same reports whether two are one and the same write.
func (r ref) same(o ref) bool {
	return r.file == o.file && (r.data == nil) == (o.data == nil) && (r.data == nil || &r.data[0] == &o.data[0])
}

var zeros = make([]byte, BlockSize)

// content is what a volume or snapshot holds: blocks by their number; what is not there reads as zeros.
type content struct {
	size   int64
	blocks map[int64]ref
}

func newContent(size int64, from *content) *content {
	c := &content{size: size, blocks: map[int64]ref{}}
	if from != nil {
		c.blocks = maps.Clone(from.blocks)
	}
	return c
}

// Disk is a volume's content, for tests that play the instance that the volume is attached to. It may be used beside the server's own calls.
type Disk struct {
	s  *Server
	id string
}

// Disk returns the content of a volume or, to read only, of a snapshot.
func (s *Server) Disk(id string) *Disk { return &Disk{s, id} }

func (d *Disk) content() (*content, error) {
	if v := d.s.volumes[d.id]; v != nil {
		return v.content, nil
	}
	if s := d.s.snapshots[d.id]; s != nil {
		return s.content, nil
	}
	return nil, fmt.Errorf("there is no volume or snapshot %q", d.id)
}

// Size is in bytes; 0 when the volume is gone.
func (d *Disk) Size() int64 {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	c, err := d.content()
	if err != nil {
		return 0
	}
	return c.size
}

// Extents calls do with the offset of each block that was ever written, in no order.
func (d *Disk) Extents(do func(off int64)) error {
	d.s.mu.Lock()
	c, err := d.content()
	var all []int64
	if err == nil {
		for i := range c.blocks {
			all = append(all, i*BlockSize)
		}
	}
	d.s.mu.Unlock()
	for _, off := range all {
		do(off)
	}
	return err
}

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		d.s.mu.Lock()
		c, err := d.content()
		var r ref
		if err == nil {
			if at >= c.size {
				err = io.EOF
			}
			r = c.blocks[at/BlockSize]
		}
		d.s.mu.Unlock()
		if err != nil {
			return n, err
		}
		b, err := r.read()
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b[at%BlockSize:])
	}
	return n, nil
}

// WriteAt implements io.WriterAt. Only volumes that are attached can be written, as by an instance.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	v := d.s.volumes[d.id]
	if v == nil || len(v.attached) == 0 {
		return 0, fmt.Errorf("volume %q is not attached", d.id)
	}
	if off < 0 || off+int64(len(p)) > v.size {
		return 0, fmt.Errorf("write %d bytes at %d of %d: beyond the end", len(p), off, v.size)
	}
	for n := 0; n < len(p); {
		at := off + int64(n)
		old, err := v.blocks[at/BlockSize].read()
		if err != nil {
			return n, err
		}
		b := append([]byte(nil), old...)
		n += copy(b[at%BlockSize:], p[n:])
		if v.blocks[at/BlockSize], err = d.s.blocks.put(b); err != nil {
			return n, err
		}
	}
	return len(p), nil
}
