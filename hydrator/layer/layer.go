// Package layer lets a disk that cannot be written be written all the same: what is written is kept beside it, in blocks, and reads see it.
//
//	WriteAt ─► whole blocks ─► file without a name, each block at its place
//	          parts of blocks ─► filled up from below first
//	ReadContext ─► blocks that were written ─► from that file
//	               all others ─► from the disk below
//
// Invariants. The disk below is never written. A read returns what was written last, or what is below. No more than Options.Limit bytes are kept,
// whatever is written: then a write fails with ENOSPC. After Freeze nothing changes any more. The file goes with the process.
//
// A Layer may be used by any number of goroutines; as with any disk, what comes of writes to the same bytes at once is one or the other.
package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Disk is what a Layer lies over.
type Disk interface {
	Number() int
	Size() int64
	// ReadContext is ReadAt with an end.
	ReadContext(ctx context.Context, p []byte, off int64) (int, error)
	// Extent tells how many bytes from off on are zeros, or are not; at most limit.
	Extent(ctx context.Context, off, limit int64) (n int64, zero bool, err error)
}

// Block is what is kept at once, in bytes: file systems write pages of that size, so that next to nothing is read from below to be written over.
const Block = 4096

const (
	groupBlocks = 512 // blocks of one entry of the index
	stripes     = 64  // locks of blocks that are filled up

	defaultLimit = 2 << 30
)

// ErrFrozen: the layer is not to be changed any more.
var ErrFrozen = errors.New("layer is frozen")

// Options change a Layer. nil is the zero value.
type Options struct {
	Limit int64 // bytes of blocks that are kept; 0: 2 GiB
}

// Layer is a disk.
type Layer struct {
	below Disk
	f     *os.File
	limit int64 // blocks
	ctx   context.Context

	parts [stripes]sync.Mutex // held while a part of a block is written; by block

	mu     sync.RWMutex
	index  map[int64]*[groupBlocks / 64]uint64 // blocks that were written, by group; guarded by mu, as is all below
	count  int64                               // of them, with those that are being written
	frozen bool
}

// New makes a Layer over a disk that does not change. What is written goes into a file without a name in dir. Reads from below that a write needs end with ctx.
func New(ctx context.Context, dir string, below Disk, o *Options) (*Layer, error) {
	if o == nil {
		o = &Options{}
	}
	limit := o.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make file of layer in %s: %w", dir, err)
	}
	return &Layer{below: below, f: os.NewFile(uintptr(fd), "layer"), limit: limit / Block, ctx: ctx, index: map[int64]*[groupBlocks / 64]uint64{}}, nil
}

// Close frees what was written.
func (l *Layer) Close() error { return l.f.Close() }

// Number is the disk's below.
func (l *Layer) Number() int { return l.below.Number() }

// Size is the disk's below, in bytes.
func (l *Layer) Size() int64 { return l.below.Size() }

// Written is how many bytes are kept.
func (l *Layer) Written() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.count * Block
}

// Freeze makes all writes from now on fail.
func (l *Layer) Freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = true
}

// Sync does nothing: what is written goes with the process in any case.
func (l *Layer) Sync() error { return nil }

// has reports whether a block was written. The caller holds mu.
func (l *Layer) has(block int64) bool {
	g := l.index[block/groupBlocks]
	return g != nil && g[block%groupBlocks/64]>>(block%64)&1 != 0
}

// run is how many blocks from first on, before end, were all written, or all not.
func (l *Layer) run(first, end int64) (n int64, written bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	written = l.has(first)
	for at := first; at < end; {
		if l.index[at/groupBlocks] == nil { // a group without any
			if written {
				return at - first, true
			}
			at = min(end, (at/groupBlocks+1)*groupBlocks)
			continue
		}
		if l.has(at) != written {
			return at - first, written
		}
		at++
	}
	return end - first, written
}

// ReadContext fills p from off as io.ReaderAt does.
func (l *Layer) ReadContext(ctx context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read layer at %d: negative offset", off)
	}
	if off >= l.Size() {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), l.Size()-off))
	for n := 0; n < want; {
		at, end := off+int64(n), off+int64(want)
		blocks, written := l.run(at/Block, (end+Block-1)/Block)
		part := p[n : n+int(min(end, (at/Block+blocks)*Block)-at)]
		var m int
		var err error
		if written {
			m, err = l.f.ReadAt(part, at)
			if errors.Is(err, io.EOF) { // the last block of a disk that ends within it
				clear(part[m:])
				m, err = len(part), nil
			}
		} else {
			m, err = l.below.ReadContext(ctx, part, at)
		}
		n += m
		if err != nil && (!errors.Is(err, io.EOF) || m < len(part)) {
			return n, err
		}
	}
	if want < len(p) {
		return want, io.EOF
	}
	return want, nil
}

// Extent tells how many bytes from off on are known to be zeros, or are not; at most limit. What was written counts as not.
func (l *Layer) Extent(ctx context.Context, off, limit int64) (n int64, zero bool, err error) {
	if off < 0 || off >= l.Size() || limit <= 0 {
		return 0, false, io.EOF
	}
	end := min(off+limit, l.Size())
	blocks, written := l.run(off/Block, (end+Block-1)/Block)
	n = min(end, (off/Block+blocks)*Block) - off
	if written {
		return n, false, nil
	}
	return l.below.Extent(ctx, off, n)
}

// WriteAt writes within the disk's size.
func (l *Layer) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || int64(len(p)) > l.Size()-off {
		return 0, fmt.Errorf("write %d bytes to layer at %d: %w", len(p), off, syscall.EINVAL)
	}
	for n := 0; n < len(p); {
		at := off + int64(n)
		block, skip := at/Block, int(at%Block)
		var m int
		var err error
		if whole := (len(p) - n) / Block * Block; skip == 0 && whole > 0 {
			m, err = whole, l.whole(p[n:n+whole], block)
		} else {
			m = min(Block-skip, len(p)-n)
			err = l.part(p[n:n+m], block, skip)
		}
		if err != nil {
			return n, fmt.Errorf("write to layer at %d: %w", at, err)
		}
		n += m
	}
	return len(p), nil
}

// whole writes whole blocks.
func (l *Layer) whole(p []byte, block int64) error {
	n := int64(len(p) / Block)
	fresh, err := l.reserve(block, n)
	if err != nil {
		return err
	}
	if _, err := l.f.WriteAt(p, block*Block); err != nil {
		l.free(fresh)
		return err
	}
	l.mark(block, n, fresh)
	return nil
}

// part writes a part of a block, after the rest of it was brought from below.
func (l *Layer) part(p []byte, block int64, skip int) error {
	lock := &l.parts[block%stripes]
	lock.Lock()
	defer lock.Unlock()
	if _, written := l.run(block, block+1); written {
		if _, err := l.reserve(block, 1); err != nil { // which says if it is frozen
			return err
		}
		_, err := l.f.WriteAt(p, block*Block+int64(skip))
		return err
	}
	b := make([]byte, Block)
	size := min(Block, l.Size()-block*Block)
	if n, err := l.below.ReadContext(l.ctx, b[:size], block*Block); err != nil && (!errors.Is(err, io.EOF) || int64(n) < size) {
		return err
	}
	copy(b[skip:], p)
	return l.whole(b, block)
}

// reserve makes room for those of n blocks that were not written yet, and returns how many they are.
func (l *Layer) reserve(block, n int64) (fresh int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen {
		return 0, ErrFrozen
	}
	for b := block; b < block+n; b++ {
		if !l.has(b) {
			fresh++
		}
	}
	if l.count+fresh > l.limit {
		return 0, fmt.Errorf("%w: %d MiB are written, which is all that a layer may hold", syscall.ENOSPC, l.count*Block>>20)
	}
	l.count += fresh
	return fresh, nil
}

func (l *Layer) free(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count -= n
}

// mark makes reads see n blocks that are in the file. Another write may have marked some of what was reserved.
func (l *Layer) mark(block, n, reserved int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for b := block; b < block+n; b++ {
		if l.has(b) {
			continue
		}
		g := l.index[b/groupBlocks]
		if g == nil {
			g = &[groupBlocks / 64]uint64{}
			l.index[b/groupBlocks] = g
		}
		g[b%groupBlocks/64] |= 1 << (b % 64)
		reserved--
	}
	l.count -= reserved
}
