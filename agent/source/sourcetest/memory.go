package sourcetest

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/openmigrate/openmigrate/agent/source"
)

// holeGrain is the grain in bytes with which a Memory reports holes.
const holeGrain = 4096

// Memory is a source in memory, which a test may write to while it is read.
type Memory struct {
	id, name string

	mu      sync.RWMutex
	data    []byte // guarded by mu
	removed bool   // guarded by mu
}

// NewMemory makes a source that holds a copy of data.
func NewMemory(id string, data []byte) *Memory {
	return &Memory{id: id, name: "memory/" + id, data: append([]byte(nil), data...)}
}

// ID returns the id that NewMemory was given.
func (m *Memory) ID() string { return m.id }

// Name returns a made-up path.
func (m *Memory) Name() string { return m.name }

// Kind says that it is a disk.
func (m *Memory) Kind() source.Kind { return source.Disk }

// WriteAt writes inside the source.
func (m *Memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if off < 0 || off+int64(len(p)) > int64(len(m.data)) {
		return 0, fmt.Errorf("write %d bytes at %d: beyond the end", len(p), off)
	}
	return copy(m.data[off:], p), nil
}

// Bytes returns a copy of the content.
func (m *Memory) Bytes() []byte {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return append([]byte(nil), m.data...)
}

// Resize cuts the source, or adds zeros.
func (m *Memory) Resize(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = append(make([]byte, 0, size), m.data[:min(size, int64(len(m.data)))]...)[:size]
	return nil
}

// Remove makes the source vanish.
func (m *Memory) Remove() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.removed = true
	return nil
}

// Size returns the size now.
func (m *Memory) Size(ctx context.Context) (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.removed {
		return 0, source.ErrVanished
	}
	return int64(len(m.data)), ctx.Err()
}

// Open starts a pass.
func (m *Memory) Open(ctx context.Context) (source.Reader, error) {
	size, err := m.Size(ctx)
	if err != nil {
		return nil, err
	}
	return &memoryReader{m: m, size: size}, nil
}

type memoryReader struct {
	m      *Memory
	size   int64
	closed atomic.Bool
}

func (r *memoryReader) Size() int64  { return r.size }
func (r *memoryReader) Align() int   { return 1 }
func (r *memoryReader) Close() error { r.closed.Store(true); return nil }

func (r *memoryReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	fail := func(n int, err error) (int, error) {
		return n, &source.ReadError{Source: r.m.name, Offset: off + int64(n), Length: len(p) - n, Err: err}
	}
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	switch {
	case r.closed.Load():
		return fail(0, os.ErrClosed)
	case off < 0:
		return fail(0, os.ErrInvalid)
	case r.m.removed:
		return fail(0, source.ErrVanished)
	}
	want := int(min(int64(len(p)), r.size-off))
	n := 0
	if off < int64(len(r.m.data)) {
		n = copy(p[:want], r.m.data[off:])
	}
	if n < want {
		return fail(n, source.ErrShrunk)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *memoryReader) NextData(off int64) (start, end int64, err error) {
	r.m.mu.RLock()
	defer r.m.mu.RUnlock()
	switch {
	case r.m.removed:
		return 0, 0, &source.ReadError{Source: r.m.name, Offset: off, Err: source.ErrVanished}
	case int64(len(r.m.data)) < r.size:
		return 0, 0, &source.ReadError{Source: r.m.name, Offset: off, Err: source.ErrShrunk}
	}
	for start = off; start < r.size && r.hole(start); {
		start = start/holeGrain*holeGrain + holeGrain
	}
	if start >= r.size {
		return 0, 0, io.EOF
	}
	for end = start; end < r.size && !r.hole(end); {
		end = end/holeGrain*holeGrain + holeGrain
	}
	return start, min(end, r.size), nil
}

// hole reports whether the block at off is all zeros. The caller holds the lock.
func (r *memoryReader) hole(off int64) bool {
	from := off / holeGrain * holeGrain
	for _, b := range r.m.data[from:min(from+holeGrain, r.size)] {
		if b != 0 {
			return false
		}
	}
	return true
}
