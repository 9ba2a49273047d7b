package ebsdirect

import (
	"context"
	"crypto/sha256"
	"encoding"
	"fmt"
	"hash"
	"slices"
	"sync"
	"sync/atomic"
)

// maxUnsettled is how many blocks may wait for an earlier one to be acknowledged.
const maxUnsettled = 8192

// Sink takes the blocks of one snapshot from a Source. Reserve belongs to one goroutine.
type Sink struct {
	ctx   context.Context
	free  chan []byte
	full  chan *slot
	room  chan struct{}
	last  int64 // index that was reserved last
	fresh bool  // without a parent: zeros are left out

	mu    sync.Mutex
	queue []*slot // in the order of their indexes, from the first that is not settled; guarded by mu, as is all below
	next  int64
	put   int64
	left  int64
	sum   hash.Hash
}

// slot is one block on its way.
type slot struct {
	index   int64
	data    []byte
	once    atomic.Bool
	sum     [sha256.Size]byte
	settled bool // guarded by the sink's mu, as is zero
	zero    bool
}

func newSink(ctx context.Context, w *Writing, buffers int) (*Sink, error) {
	s := &Sink{ctx: ctx, free: make(chan []byte, buffers), full: make(chan *slot, buffers), room: make(chan struct{}, maxUnsettled),
		last: w.Next - 1, fresh: w.Parent == nil, next: w.Next, put: w.Put, left: w.Left}
	for range buffers {
		s.free <- nil
	}
	var err error
	s.sum, err = w.sum()
	return s, err
}

// Buffers is how many blocks can be reserved and not full. A Source that waits for more before it fills the first waits forever.
func (s *Sink) Buffers() int { return cap(s.free) }

// Reserve lends memory for the block of that index, in ascending order: BlockSize zero bytes. It waits while all is lent. When the block is
// as it is to be, full hands it over, from any goroutine; then the memory is not the caller's any more.
func (s *Sink) Reserve(ctx context.Context, index int64) (data []byte, full func(), err error) {
	if index <= s.last || index >= MaxBlocks {
		return nil, nil, fmt.Errorf("reserve block %d: the last one was %d", index, s.last)
	}
	for _, err := range []error{ctx.Err(), s.ctx.Err()} {
		if err != nil {
			return nil, nil, context.Cause(s.ctx)
		}
	}
	b, err := s.lend(ctx)
	if err != nil {
		return nil, nil, err
	}
	s.last = index
	sl := &slot{index: index, data: b}
	s.mu.Lock()
	s.queue = append(s.queue, sl)
	s.mu.Unlock()
	return b, func() {
		if !sl.once.Swap(true) {
			s.full <- sl // has room for all that is lent
		}
	}, nil
}

func (s *Sink) lend(ctx context.Context) ([]byte, error) {
	done := func() error {
		if err := context.Cause(s.ctx); err != nil {
			return err
		}
		return context.Cause(ctx)
	}
	select {
	case s.room <- struct{}{}:
	case <-ctx.Done():
		return nil, done()
	case <-s.ctx.Done():
		return nil, done()
	}
	select {
	case b := <-s.free:
		if b == nil {
			return make([]byte, BlockSize), nil
		}
		clear(b)
		return b, nil
	case <-ctx.Done():
		return nil, done()
	case <-s.ctx.Done():
		return nil, done()
	}
}

// settle notes that a block was acknowledged, or left out because it is zeros, and frees its memory.
func (s *Sink) settle(sl *slot, zero bool) {
	s.mu.Lock()
	sl.settled, sl.zero = true, zero
	n := 0
	for ; n < len(s.queue) && s.queue[n].settled; n++ {
		q := s.queue[n]
		s.next = q.index + 1
		if q.zero {
			s.left++
			continue
		}
		s.put++
		s.sum.Write(q.sum[:])
	}
	s.queue = slices.Delete(s.queue, 0, n)
	b := sl.data
	sl.data = nil
	s.mu.Unlock()
	for range n {
		<-s.room
	}
	s.free <- b
}

// mark writes into w how far everything is settled.
func (s *Sink) mark(w *Writing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum, err := s.sum.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return fmt.Errorf("keep checksum: %w", err)
	}
	w.Next, w.Put, w.Left, w.Sum = s.next, s.put, s.left, sum
	return nil
}

// open is how many blocks were reserved and never settled.
func (s *Sink) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}
