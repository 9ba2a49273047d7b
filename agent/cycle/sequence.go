package cycle

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/openmigrate/openmigrate/chunker"
)

// sequence takes spans in order of reading, compares them with what is known, and gathers what must be offered.
func (p *pipeline) sequence() error {
	defer close(p.offers)
	q := &sequencer{p: p, b: &batch{}, ids: make([]chunker.ID, spanSize/chunker.MinSize)}
	for {
		s, ok := receive(p.ctx, p.order)
		if !ok {
			break
		}
		if _, ok := receive(p.ctx, s.ready); !ok {
			return p.ctx.Err()
		}
		if s.err != nil {
			return s.err
		}
		if err := q.span(s); err != nil {
			return err
		}
	}
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	return q.flush()
}

// Limits of a batch. Chunks hold buffers until the master has answered: no batch may wait with a large part of a pool.
const (
	batchItems = 64
	batchNodes = 1024
	batchShare = 4 // of the raw buffers
)

// batch is a group of ids of which those in ask are offered in one request.
type batch struct {
	ids     []chunker.ID
	items   []offered
	ask     []chunker.ID
	spans   int
	last    *span
	nodes   int
	known   []byte // wire.Bitmap, of ask
	done    chan error
	drained *waiter // for all of it, and of the batches before it
}

// offered is what an id of a batch stands for: a compressed chunk, a chunk of a span, or an encoded node.
type offered struct {
	ask   int // its place in the batch's ask; -1: it is sent without asking
	raw   int // bytes of the chunk
	item  *item
	span  *span
	chunk int
	node  []byte
}

// sequencer is the state of sequence.
type sequencer struct {
	p   *pipeline
	b   *batch
	ids []chunker.ID
}

// flush sends the batch off to be offered; the answer is awaited in order.
func (q *sequencer) flush() error {
	full, p := q.b, q.p
	if len(full.ids) == 0 && full.drained == nil {
		return nil
	}
	q.b = &batch{}
	full.last = nil
	full.done = make(chan error, 1)
	if len(full.ask) == 0 {
		full.done <- nil
	} else {
		p.group.Go(func() error {
			known, err := p.offer(full.ask)
			full.known = known
			full.done <- err
			return err
		})
	}
	if !send(p.ctx, p.offers, full) {
		return p.ctx.Err()
	}
	return nil
}

func (q *sequencer) span(s *span) error {
	switch {
	case s.drained != nil:
		q.b.drained = s.drained
		return q.flush()
	case s.last:
		return q.tree(s.d)
	case s.hole > 0:
		return q.hole(s)
	}
	defer q.p.release(s)
	ids := q.ids[:s.n]
	if s.parts == nil {
		if err := s.d.rec.IDs(s.first, ids); err != nil {
			return err
		}
	}
	for i := range s.parts {
		if err := s.d.rec.IDs(s.parts[i].index, ids[i:i+1]); err != nil {
			return err
		}
	}
	for i := range s.n {
		if err := q.chunk(s, i, ids[i]); err != nil {
			return err
		}
	}
	return nil
}

// hole takes chunks that the source says are zero. Those that were not have changed.
func (q *sequencer) hole(s *span) error {
	d, n := s.d, &q.p.n
	end := s.first + s.hole
	size := min(end*int64(d.layout.ChunkSize), d.layout.Size) - s.first*int64(d.layout.ChunkSize)
	n.zero.Add(size)
	n.done.Add(size)
	for from := s.first; from < end; {
		first, stop, err := d.rec.NextData(from, end)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for from = first; from < stop; {
			ids := q.ids[:min(int64(len(q.ids)), stop-from)]
			if err := d.rec.IDs(from, ids); err != nil {
				return err
			}
			for _, id := range ids {
				if !id.IsZero() {
					if err := d.rec.Set(from, chunker.Zero); err != nil {
						return err
					}
				}
				from++
			}
		}
	}
	return nil
}

// chunk takes one chunk; was is what it was so far.
func (q *sequencer) chunk(s *span, i int, was chunker.ID) error {
	index, id, n := s.index(i), s.ids[i], int64(s.length(i))
	q.p.n.done.Add(n)
	if s.parts != nil {
		if x := &s.parts[i]; !x.whole && (x.stale || x.was != was) {
			s.forget(i)
			s.d.again = append(s.d.again, index)
			return nil
		}
	}
	if id != was {
		if err := s.d.rec.Set(index, id); err != nil {
			return err
		}
	}
	switch {
	case id.IsZero():
		q.p.n.zero.Add(n)
		s.forget(i)
	case id == was && !q.p.lost[id]:
		q.p.n.same.Add(n)
		q.p.drop(s.eager[i])
	default:
		return q.offer(s, i)
	}
	return nil
}

// offer puts a chunk into the batch, and sends the batch off when it is full.
func (q *sequencer) offer(s *span, i int) error {
	x := q.b
	o := offered{raw: s.length(i), item: s.eager[i], ask: len(x.ask)}
	if s.parts != nil && !s.parts[i].whole {
		o.ask = -1 // nobody has had the like of it, and it is small
	} else {
		x.ask = append(x.ask, s.ids[i])
	}
	s.eager[i] = nil
	if o.item == nil {
		s.users.Add(1)
		o.span, o.chunk = s, i
		if x.last != s {
			x.last = s
			x.spans++
		}
	}
	x.ids = append(x.ids, s.ids[i])
	x.items = append(x.items, o)
	if len(x.ids) >= batchItems || x.spans >= q.p.buf.raws.size/batchShare {
		return q.flush()
	}
	return nil
}

// tree makes a disk's tree and offers the nodes that are new. If staging lost anything, all are.
func (q *sequencer) tree(d *disk) (err error) {
	if len(d.again) > 0 {
		return fmt.Errorf("%s: %w", d.src.Name(), errStale)
	}
	hash := chunker.NewHasher(q.p.conf.Keys.NodeKey())
	d.root, d.diff, err = d.rec.Tree(hash, len(q.p.lost) > 0, func(id chunker.ID, encoded []byte) error {
		q.b.ids, q.b.ask = append(q.b.ids, id), append(q.b.ask, id)
		q.b.items = append(q.b.items, offered{node: bytes.Clone(encoded), ask: len(q.b.ask) - 1})
		if q.b.nodes++; q.b.nodes >= batchNodes {
			return q.flush()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", d.src.Name(), err)
	}
	return nil
}
