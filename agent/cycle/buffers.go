package cycle

import (
	"context"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Sizes of the pools, in bytes and buffers. Together they bound an agent's memory.
const (
	spanSize  = 1 << 20 // one read; holds whole chunks
	spanBytes = 32 << 20
	packs     = 3 // one is filled while two are on their way
)

// Buffers are the pools of an agent: made once, used by one cycle at a time.
type Buffers struct {
	spans pool[*span]
	packs pool[[]byte]
}

// NewBuffers makes the pools. Memory is taken as it is needed the first time.
func NewBuffers() *Buffers {
	return &Buffers{
		spans: newPool(spanBytes/spanSize, func() *span { return &span{ready: make(chan struct{}, 1)} }),
		packs: newPool(packs, func() []byte { return make([]byte, 0, format.PackTarget) }),
	}
}

// pool holds at most a fixed number of things.
type pool[T any] struct {
	free  chan T
	fresh chan func() T
}

func newPool[T any](n int, make_ func() T) pool[T] {
	p := pool[T]{free: make(chan T, n), fresh: make(chan func() T, n)}
	for range n {
		p.fresh <- make_
	}
	return p
}

// get takes a used one, else a new one, else waits.
func (p *pool[T]) get(ctx context.Context) (T, error) {
	select {
	case v := <-p.free:
		return v, nil
	default:
	}
	select {
	case v := <-p.free:
		return v, nil
	case f := <-p.fresh:
		return f(), nil
	case <-ctx.Done():
		var zero T
		return zero, context.Cause(ctx)
	}
}

// put gives one back.
func (p *pool[T]) put(v T) { p.free <- v }

// span is one read of a disk and what became of its chunks. It goes back to its pool when the last of its users lets go.
type span struct {
	buf   []byte // spanSize or one chunk, whichever is more
	d     *disk
	first int64 // index of its first chunk
	n     int   // chunks
	ids   [spanSize / chunker.MinSize]chunker.ID
	err   error
	ready chan struct{} // one token when the worker is done
	users int           // guarded by the pipeline's mutex
}

// chunk is the content of its i-th chunk.
func (s *span) chunk(i int) []byte {
	off := i * s.d.layout.ChunkSize
	return s.buf[off : off+s.length(i)]
}

func (s *span) length(i int) int {
	_, n := s.d.layout.Extent(s.first + int64(i))
	return n
}

// grow makes room for n bytes at an address that suits direct reads.
func (s *span) grow(n int) {
	if cap(s.buf) < n {
		s.buf = source.AlignedBuffer(max(n, spanSize))
	}
	s.buf = s.buf[:n]
}
