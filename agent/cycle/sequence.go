package cycle

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// sequence takes spans in order of disk, compares them with the base, builds the tree, and gathers what must be offered.
func (p *pipeline) sequence() error {
	defer close(p.offers)
	var cur *sequencer
	b := &batch{}
	for {
		s, ok := receive(p.ctx, p.order)
		if !ok {
			break
		}
		if cur == nil {
			cur = newSequencer(p, s.d)
		}
		if _, ok := receive(p.ctx, s.ready); !ok {
			return p.ctx.Err()
		}
		if s.err != nil {
			return s.err
		}
		if err := cur.span(s, &b); err != nil {
			return err
		}
		if s.n == 0 {
			cur = nil
		} else {
			p.release(s)
		}
	}
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	return p.flush(&b)
}

// Limits of a batch. Chunks hold buffers until the master has answered: no batch may wait with a large part of a pool.
const (
	batchItems = 64
	batchNodes = 1024
	batchShare = 4 // of the raw buffers
)

// batch is a group of ids that is offered in one request.
type batch struct {
	ids   []chunker.ID
	items []offered
	spans int
	last  *span
	nodes int
	known []byte // wire.Bitmap
	done  chan error
}

// offered is what an id of a batch stands for: a compressed chunk, a chunk of a span, or an encoded node.
type offered struct {
	raw   int // bytes of the chunk
	item  *item
	span  *span
	chunk int
	node  []byte
}

// flush sends a batch off to be offered; the answer is awaited in order.
func (p *pipeline) flush(b **batch) error {
	full := *b
	if len(full.ids) == 0 {
		return nil
	}
	*b = &batch{}
	full.last = nil
	full.done = make(chan error, 1)
	p.group.Go(func() error {
		known, err := p.offer(full.ids)
		full.known = known
		full.done <- err
		return err
	})
	if !send(p.ctx, p.offers, full) {
		return p.ctx.Err()
	}
	return nil
}

// sequencer builds one disk's tree.
type sequencer struct {
	p     *pipeline
	d     *disk
	b     **batch
	tree  *format.TreeBuilder
	next  int64 // chunk
	dirty [format.MaxLevels][]int64
	grown int // first level that the parent's tree does not have
	base  []chunker.ID
}

func newSequencer(p *pipeline, d *disk) *sequencer {
	q := &sequencer{p: p, d: d, base: make([]chunker.ID, spanSize/chunker.MinSize)}
	if d.parent {
		q.grown = format.Levels(d.base.Info().Layout().Chunks())
	}
	q.tree = format.NewTreeBuilder(chunker.NewHasher(p.conf.Keys.NodeKey()), d.layout.Chunks(), q.node)
	return q
}

// span takes the next span of the disk; one without chunks ends it.
func (q *sequencer) span(s *span, b **batch) error {
	q.b = b
	if err := q.gap(s.first); err != nil {
		return err
	}
	if s.n == 0 {
		return q.end()
	}
	base := q.base[:s.n]
	had, err := q.d.base.Read(s.first, base)
	if err != nil {
		return err
	}
	if !had {
		clear(base)
	}
	for i := range s.n {
		if err := q.chunk(s, i, base[i]); err != nil {
			return err
		}
	}
	q.next = s.first + int64(s.n)
	return nil
}

// gap steps over chunks that the source says are holes. Those that the base does not have as zero have changed.
func (q *sequencer) gap(to int64) error {
	if to <= q.next {
		return nil
	}
	from := q.next
	q.p.n.zero.Add(min(to*int64(q.d.layout.ChunkSize), q.d.layout.Size) - from*int64(q.d.layout.ChunkSize))
	q.p.n.done.Add(min(to*int64(q.d.layout.ChunkSize), q.d.layout.Size) - from*int64(q.d.layout.ChunkSize))
	q.next = to
	for from < to {
		first, end, err := q.d.base.NextData(from, to)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for from = first; from < end; {
			ids := q.base[:min(int64(len(q.base)), end-from)]
			if _, err := q.d.base.Read(from, ids); err != nil {
				return err
			}
			for _, id := range ids {
				if !id.IsZero() {
					if err := q.changed(from, chunker.Zero); err != nil {
						return err
					}
				}
				from++
			}
		}
	}
	return nil
}

// changed notes that a chunk is not what the parent has at that place.
func (q *sequencer) changed(index int64, id chunker.ID) error {
	_, n := q.d.layout.Extent(index)
	q.d.diff += int64(n)
	q.mark(index)
	return q.d.rec.Set(index, id)
}

// mark notes that the nodes above a chunk are not the parent's.
func (q *sequencer) mark(index int64) {
	for level := range q.dirty {
		index /= format.Fanout
		if l := q.dirty[level]; len(l) == 0 || l[len(l)-1] != index {
			q.dirty[level] = append(l, index)
		}
	}
}

// isDirty reports whether a node was marked, and forgets marks up to it: nodes of a level come in ascending order.
func (q *sequencer) isDirty(level int, index int64) bool {
	l := q.dirty[level]
	for len(l) > 0 && l[0] < index {
		l = l[1:]
	}
	found := len(l) > 0 && l[0] == index
	q.dirty[level] = l
	return found
}

func (q *sequencer) chunk(s *span, i int, base chunker.ID) error {
	index, id, n := s.first+int64(i), s.ids[i], int64(s.length(i))
	q.p.n.done.Add(n)
	if id != base {
		if err := q.changed(index, id); err != nil {
			return err
		}
	}
	switch {
	case id.IsZero():
		q.p.n.zero.Add(n)
	case id == base && !q.p.lost[id]:
		q.p.n.same.Add(n)
		q.p.drop(s.eager[i])
	default:
		if err := q.p.addChunk(q.b, s, i); err != nil {
			return err
		}
	}
	return q.tree.Add(index, id)
}

// addChunk puts a chunk into the batch, and sends the batch off when it is full.
func (p *pipeline) addChunk(b **batch, s *span, i int) error {
	x := *b
	o := offered{raw: s.length(i), item: s.eager[i]}
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
	if len(x.ids) >= batchItems || x.spans >= p.buf.raws.size/batchShare {
		return p.flush(b)
	}
	return nil
}

// node is called by the tree for each of its nodes.
func (q *sequencer) node(level int, index int64, id chunker.ID, encoded []byte) error {
	dirty := q.isDirty(level, index) || !q.d.parent || level >= q.grown
	if !dirty && !q.p.lost[id] {
		return nil
	}
	x := *q.b
	x.ids = append(x.ids, id)
	x.items = append(x.items, offered{node: bytes.Clone(encoded)})
	if x.nodes++; x.nodes >= batchNodes {
		return q.p.flush(q.b)
	}
	return nil
}

// end finishes the tree. A disk that shrank has other nodes above its last chunk even if no chunk changed.
func (q *sequencer) end() error {
	if chunks := q.d.layout.Chunks(); q.d.parent && chunks > 0 && q.d.base.Info().Layout().Chunks() > chunks {
		q.mark(chunks - 1)
	}
	root, err := q.tree.Finish()
	if err != nil {
		return fmt.Errorf("%s: %w", q.d.src.Name(), err)
	}
	q.d.root = root
	return nil
}
