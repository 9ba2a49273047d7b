package cycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/chunker"
)

// depth of the queues between stages, in elements.
const (
	orderedDepth = 32
	offerDepth   = 4
	itemDepth    = 32
)

// pipeline moves the data of one cycle. scan is called for one disk after another, then close. Stages end in order, each
// closing the queue to the next; a failure cancels ctx, which every blocking step watches.
type pipeline struct {
	*run
	ctx    context.Context
	group  *errgroup.Group
	buf    *Buffers
	eager  atomic.Bool // compress what was read at once: the master knows next to nothing of it
	seen   filter      // chunks that were compressed so
	scanQ  chan *span  // to workers
	compQ  chan *item  // to workers, who prefer it: it frees buffers
	order  chan *span  // to the sequencer, in order of reading
	offers chan *batch
	packQ  chan *item // to the packer, in order
	upload chan fullPack
	onWay  sync.WaitGroup // packs that were shipped and are not committed
	unsent atomic.Bool    // one of them never will be
	closed bool           // of the goroutine that hands on
}

func newPipeline(ctx context.Context, r *run) (*pipeline, error) {
	group, ctx := errgroup.WithContext(ctx)
	largest := 0
	for _, d := range r.disks {
		largest = max(largest, d.layout.ChunkSize)
	}
	r.conf.Buffers.fit(largest)
	p := &pipeline{
		run: r, ctx: ctx, group: group, buf: r.conf.Buffers,
		scanQ: make(chan *span, orderedDepth), compQ: make(chan *item, itemDepth), order: make(chan *span, orderedDepth),
		offers: make(chan *batch, offerDepth), packQ: make(chan *item, itemDepth), upload: make(chan fullPack),
	}
	workers := runtime.GOMAXPROCS(0)
	for range workers {
		w, err := newWorker(p)
		if err != nil {
			return nil, err
		}
		group.Go(w.run)
	}
	group.Go(p.sequence)
	group.Go(p.resolve)
	group.Go(p.pack)
	for range packs - 1 {
		group.Go(p.uploadPacks)
	}
	return p, nil
}

// scan reads all of a disk: it hands spans to the workers and, in the same order, to the sequencer.
func (p *pipeline) scan(d *disk) error {
	if err := p.read(d, d.whole, 0, d.layout.Chunks()); err != nil {
		return err
	}
	// One more question tells whether the source is still the one that was opened.
	if _, _, err := d.reader.NextData(d.layout.Size); err != nil && !errors.Is(err, io.EOF) {
		return p.fail(err)
	}
	return nil
}

// read reads chunks [next, limit) of a disk. What the reader says is a hole is zero and is not read.
func (p *pipeline) read(d *disk, from source.Reader, next, limit int64) error {
	perSpan := int64(max(1, spanSize/d.layout.ChunkSize))
	size := int64(d.layout.ChunkSize)
	for next < limit {
		start, end, err := from.NextData(next * size)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return p.fail(err)
		}
		if end <= start || end <= next*size {
			return p.fail(fmt.Errorf("read %s: data ends at %d before it begins at %d", d.src.Name(), end, start))
		}
		first := min(max(next, start/size), limit)
		if first > next {
			if err := p.hand(&span{d: d, first: next, hole: first - next}); err != nil {
				return err
			}
		}
		last := min((end+size-1)/size, limit)
		for next = first; next < last; {
			n := min(perSpan, last-next)
			if err := p.hand(&span{d: d, from: from, first: next, n: int(n)}); err != nil {
				return err
			}
			next += n
		}
	}
	if next < limit {
		return p.hand(&span{d: d, first: next, hole: limit - next})
	}
	return nil
}

// fail ends the pipeline with err.
func (p *pipeline) fail(err error) error {
	p.group.Go(func() error { return err })
	return err
}

// hand passes a span on. One without chunks of its own goes to the sequencer only.
func (p *pipeline) hand(s *span) error {
	s.ready = make(chan struct{}, 1)
	if s.n > 0 {
		if err := p.buf.raws.reserve(p.ctx); err != nil {
			return err
		}
		s.users.Store(1)
		if !send(p.ctx, p.scanQ, s) {
			return p.ctx.Err()
		}
	} else {
		s.ready <- struct{}{}
	}
	if !send(p.ctx, p.order, s) {
		return p.ctx.Err()
	}
	return nil
}

// drain waits until all that was handed on is in staging or on its way there: every chunk's id is recorded, and no buffer is in use but a
// pack that is not full. With ship that goes off, too, and all packs are committed.
func (p *pipeline) drain(ship bool) error {
	w := &waiter{done: make(chan struct{}), ship: ship}
	if err := p.hand(&span{drained: w}); err != nil {
		return err
	}
	select {
	case <-w.done:
		return p.ctx.Err()
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// waiter waits for what was handed on before it.
type waiter struct {
	done chan struct{}
	ship bool
}

// send gives up when ctx ends.
func send[T any](ctx context.Context, q chan<- T, v T) bool {
	select {
	case q <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// receive gives up when ctx ends; ok is false then, and when the queue is closed and empty.
func receive[T any](ctx context.Context, q <-chan T) (v T, ok bool) {
	select {
	case v, ok = <-q:
		return v, ok
	case <-ctx.Done():
		return v, false
	}
}

// close waits for everything to be sent and returns the first failure. Nothing may be handed on after it.
func (p *pipeline) close() error {
	p.closed = true
	close(p.order)
	close(p.scanQ)
	err := p.group.Wait()
	if cause := context.Cause(p.ctx); err != nil && cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	if err != nil {
		// Buffers that were on their way are lost to the pools: start the next cycle with new ones.
		p.buf.reset()
	}
	return err
}

// release lets go of a span's raw buffer for one of its users.
func (p *pipeline) release(s *span) {
	if s.users.Add(-1) > 0 {
		return
	}
	p.buf.raws.put(s.raw[:cap(s.raw)])
	s.raw = nil
}

// worker reads, tests and hashes spans, and compresses chunks.
type worker struct {
	p      *pipeline
	hash   *chunker.Hasher
	comp   *chunker.Compressor
	blocks blockWorker
}

func newWorker(p *pipeline) (*worker, error) {
	c, err := chunker.NewCompressor()
	if err != nil {
		return nil, err
	}
	return &worker{p: p, hash: chunker.NewHasher(p.conf.Keys.ChunkKey()), comp: c}, nil
}

func (w *worker) run() error {
	scanQ, compQ := w.p.scanQ, w.p.compQ
	for scanQ != nil || compQ != nil {
		select { // what frees buffers comes first
		case it, ok := <-compQ:
			if ok {
				it.err = w.late(it)
				it.ready <- struct{}{}
			} else {
				compQ = nil
			}
			continue
		default:
		}
		select {
		case it, ok := <-compQ:
			if !ok {
				compQ = nil
				continue
			}
			it.err = w.late(it)
			it.ready <- struct{}{}
		case s, ok := <-scanQ:
			if !ok {
				scanQ = nil
				continue
			}
			w.read(s)
			s.ready <- struct{}{}
		case <-w.p.ctx.Done():
			return w.p.ctx.Err()
		}
	}
	return nil
}

// read fills a span and names its chunks. If they are likely to be sent they are compressed at once, while they are in the processor's
// caches, and the raw buffer is free again; a chunk that is not, for want of a buffer or because it was seen before, is held as it was read.
func (w *worker) read(s *span) {
	s.raw = w.p.buf.raws.pop()
	if s.err = s.fill(); s.err != nil {
		return
	}
	if s.parts != nil {
		for i := range s.parts {
			s.ids[i] = w.part(s, &s.parts[i])
		}
		return
	}
	eager := !s.d.parent && w.p.eager.Load()
	for i := range s.n {
		s.ids[i] = w.hash.ID(s.chunk(i))
		if !eager || s.ids[i].IsZero() || w.p.seen.add(&s.ids[i]) {
			continue
		}
		if it, ok := w.p.buf.eager.try(); ok {
			it.id, it.raw, it.pool = s.ids[i], s.length(i), w.p.buf.eager
			w.compress(it, s.chunk(i))
			it.ready <- struct{}{}
			s.eager[i] = it
		}
	}
}

// fill reads the span's chunks into its raw buffer.
func (s *span) fill() error {
	if s.parts != nil {
		return s.fillParts()
	}
	off, _ := s.d.layout.Extent(s.first)
	last, n := s.d.layout.Extent(s.first + int64(s.n) - 1)
	s.raw = s.raw[:last+int64(n)-off]
	return source.ReadBatch(s.from, []source.Piece{{Off: off, P: s.raw}})
}

// compress fills an item. What does not get smaller is copied, so that the raw buffer need not stay.
func (w *worker) compress(it *item, content []byte) {
	it.data, it.codec = w.comp.Compress(it.buf, content)
	if it.codec == chunker.Raw {
		it.data = append(it.buf[:0], content...)
	}
}

// late encodes a chunk that the master asked for.
func (w *worker) late(it *item) (err error) {
	if s := it.span; s.parts != nil {
		err = w.latePart(it, &s.parts[it.chunk])
	} else {
		w.compress(it, s.chunk(it.chunk))
	}
	w.p.release(it.span)
	it.span = nil
	return err
}
