package cycle

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/internal/aligned"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Sizes of the pools. Together they bound an agent's memory.
const (
	spanSize   = 1 << 20  // bytes of one read; holds whole chunks, one at least
	rawBytes   = 12 << 20 // what was read and is still needed as it is
	eagerBytes = 20 << 20 // chunks that were compressed before the master asked for them
	lateBytes  = 6 << 20  // chunks that are compressed because it did
	packs      = 3        // of format.PackTarget bytes: one is filled while two are on their way
	leastRaws  = 4
)

// Buffers are the pools of an agent: made once, used by one cycle at a time.
type Buffers struct {
	chunk int // largest chunk that they were made for, in bytes
	raws  *pool[[]byte]
	eager *pool[*item]
	late  *pool[*item]
	packs *pool[[]byte]
}

// NewBuffers makes the pools. Memory is taken as it is needed the first time.
func NewBuffers() *Buffers {
	return &Buffers{packs: newPool(packs, func() []byte { return make([]byte, 0, format.PackTarget) })}
}

// fit makes the pools suit chunks of up to n bytes: fewer buffers where each is larger.
func (b *Buffers) fit(n int) {
	if b.chunk == n {
		return
	}
	one := max(n, spanSize)
	room := n + n/64 + chunker.Slack
	newItem := func() *item { return &item{ready: make(chan struct{}, 1), buf: make([]byte, 0, room)} }
	b.chunk = n
	b.raws = newPool(max(leastRaws, rawBytes/one), func() []byte { return source.AlignedBuffer(one) })
	b.eager = newPool(eagerBytes/room, newItem)
	b.late = newPool(max(1, lateBytes/room), newItem)
}

// reset gives up buffers that a failed cycle may still hold.
func (b *Buffers) reset() { *b = *NewBuffers() }

// pool holds at most a fixed number of things. The one that came back last goes out first: it is still in the processor's caches.
type pool[T any] struct {
	size  int
	left  chan struct{} // a token for each that may be taken
	mu    sync.Mutex    // guards free
	free  []T
	fresh func() T
}

func newPool[T any](n int, fresh func() T) *pool[T] {
	p := &pool[T]{size: n, left: make(chan struct{}, n), fresh: fresh}
	for range n {
		p.left <- struct{}{}
	}
	return p
}

// get waits for one.
func (p *pool[T]) get(ctx context.Context) (v T, err error) {
	if err := p.reserve(ctx); err != nil {
		return v, err
	}
	return p.pop(), nil
}

// reserve waits until there is one for the caller, who takes it with pop. Who must be served in order reserves in order.
func (p *pool[T]) reserve(ctx context.Context) error {
	select {
	case <-p.left:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// try does not wait.
func (p *pool[T]) try() (v T, ok bool) {
	select {
	case <-p.left:
		return p.pop(), true
	default:
		return v, false
	}
}

// pop takes what was reserved.
func (p *pool[T]) pop() T {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	if n == 0 {
		return p.fresh()
	}
	v := p.free[n-1]
	p.free = p.free[:n-1]
	return v
}

// put gives one back.
func (p *pool[T]) put(v T) {
	p.mu.Lock()
	p.free = append(p.free, v)
	p.mu.Unlock()
	p.left <- struct{}{}
}

// span is one read of a disk and what became of its chunks. Its raw buffer goes back when the last of its users lets go. Or it is a message
// to the sequencer: of a hole, that a disk is complete, or a wish to hear when all before it is done.
type span struct {
	d       *disk
	from    source.Reader
	first   int64  // index of its first chunk
	n       int    // chunks
	parts   []part // of a pass over what is marked: its chunks, which need not be neighbours; nil: those from first on
	hole    int64  // chunks that need not be read to know that they are zero
	last    bool   // the tree can be made
	drained *waiter

	held  *held  // what it is filled from; nil: from the disk
	raw   []byte // nil until it is read
	ids   [spanSize / chunker.MinSize]chunker.ID
	eager [spanSize / chunker.MinSize]*item // chunks that are compressed already
	err   error
	ready chan struct{} // one token when the worker is done
	users atomic.Int32  // of raw
}

// index is where its i-th chunk lies on the disk, in chunks.
func (s *span) index(i int) int64 {
	if s.parts != nil {
		return s.parts[i].index
	}
	return s.first + int64(i)
}

// length is the length of its i-th chunk in bytes.
func (s *span) length(i int) int {
	_, n := s.d.layout.Extent(s.index(i))
	return n
}

// chunk is the content of its i-th chunk. A span of parts may not have it.
func (s *span) chunk(i int) []byte {
	off := i * s.d.layout.ChunkSize
	return s.raw[off : off+s.length(i)]
}

// filter remembers some of the ids that it has seen. It may forget, and takes one id for another about once in 2^64 times.
type filter [1 << 14]atomic.Uint64

// add reports whether id was there already.
func (f *filter) add(id *chunker.ID) bool {
	v := binary.LittleEndian.Uint64(id[8:])
	return f[binary.LittleEndian.Uint64(id[:])%uint64(len(f))].Swap(v) == v
}

// frozenBytes is how much can be read while file systems are frozen: into pack buffers, which nobody needs then but one.
const frozenBytes = (packs - 1) * format.PackTarget

// room is memory that is borrowed from the packs.
type room struct {
	pool  *pool[[]byte]
	parts [][]byte
	used  []int // bytes of each part
	users atomic.Int32
}

// borrow waits for all packs but one.
func (b *Buffers) borrow(ctx context.Context) (*room, error) {
	m := &room{pool: b.packs, used: make([]int, packs-1)}
	for range packs - 1 {
		p, err := b.packs.get(ctx)
		if err != nil {
			return nil, err
		}
		m.parts = append(m.parts, p[:cap(p)])
	}
	return m, nil
}

// take returns n bytes at an address that suits direct reads, or nil when there is no room left.
func (m *room) take(n int) []byte {
	for i, p := range m.parts {
		at := m.used[i] + aligned.Missing(p[m.used[i]:])
		if at+n <= len(p) {
			m.used[i] = at + n
			return p[at : at+n : at+n]
		}
	}
	return nil
}

// giveBack returns the memory when users have called release, at once if there are none.
func (m *room) giveBack(users int) {
	m.users.Store(int32(users) + 1)
	m.release()
}

func (m *room) release() {
	if m.users.Add(-1) > 0 {
		return
	}
	for _, p := range m.parts {
		m.pool.put(p[:0])
	}
}
