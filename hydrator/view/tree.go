package view

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// tree finds chunk ids. Encoded nodes are kept by the reader; the leaves that were used last are kept decoded here.
type tree struct {
	v      *View
	number int
	root   chunker.ID
	levels int
	flight singleflight.Group

	mu     sync.Mutex
	leaves map[int64]*leaf // guarded by mu
}

// leaf is the ids below one place of level 0, or a run of places below which all is zero.
type leaf struct {
	first, end int64 // chunks that it speaks of; more than Fanout only where all is zero
	node       *format.Node
}

const maxLeaves = 256 // 2 KiB each

// ids are those of chunks [first, end).
func (t *tree) ids(ctx context.Context, first, end int64) ([]chunker.ID, error) {
	out := make([]chunker.ID, 0, end-first)
	for first < end {
		l, err := t.leaf(ctx, first/format.Fanout)
		if err != nil {
			return nil, err
		}
		for ; first < min(end, l.end); first++ {
			id := chunker.Zero
			if l.node != nil {
				id = l.node.Children[first-l.first]
			}
			out = append(out, id)
		}
	}
	return out, nil
}

// run is how many chunks from index on are all zero, or all not, as far as one leaf tells.
func (t *tree) run(ctx context.Context, index int64) (n int64, zero bool, err error) {
	l, err := t.leaf(ctx, index/format.Fanout)
	if err != nil || l.node == nil {
		return l.runTo(index), true, err
	}
	zero = l.node.Children[index-l.first].IsZero()
	for n = 1; index+n < l.end && l.node.Children[index+n-l.first].IsZero() == zero; n++ {
	}
	return n, zero, nil
}

func (l *leaf) runTo(index int64) int64 {
	if l == nil {
		return 0
	}
	return l.end - index
}

// leaf reads the way down to a place of level 0, once for all who ask at the same time.
func (t *tree) leaf(ctx context.Context, place int64) (*leaf, error) {
	t.mu.Lock()
	l := t.leaves[place]
	t.mu.Unlock()
	if l != nil {
		return l, nil
	}
	// The work belongs to the view: another may wait for it when this caller has given up.
	ch := t.flight.DoChan(strconv.FormatInt(place, 36), func() (any, error) {
		done := make(chan struct{})
		var l *leaf
		err := ErrClosed
		if t.v.start(func() { defer close(done); l, err = t.descend(t.v.ctx, place) }) {
			<-done
		}
		return l, err
	})
	select {
	case res := <-ch:
		if res.Err != nil {
			return nil, t.v.why(res.Err)
		}
		l = res.Val.(*leaf)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaves == nil || len(t.leaves) >= maxLeaves {
		t.leaves = map[int64]*leaf{}
	}
	t.leaves[place] = l
	return l, nil
}

func (t *tree) descend(ctx context.Context, place int64) (*leaf, error) {
	id := t.root
	span := int64(1) // places of level 0 below one node of the level
	for range t.levels - 1 {
		span *= format.Fanout
	}
	for level := t.levels - 1; ; level-- {
		if id.IsZero() {
			first := place / span * span * format.Fanout
			return &leaf{first: first, end: first + span*format.Fanout}, nil
		}
		encoded, err := t.v.r.Nodes(ctx, []chunker.ID{id})
		if err != nil {
			return nil, err
		}
		if len(encoded) != 1 {
			return nil, fmt.Errorf("read tree: %d nodes for one id", len(encoded))
		}
		n := &format.Node{}
		if err := format.DecodeNode(encoded[0], n); err != nil {
			return nil, fmt.Errorf("tree node %s: %w", id, err)
		}
		if int(n.Level) != level {
			return nil, fmt.Errorf("%w: tree node %s of level %d in level %d", format.ErrCorrupt, id, n.Level, level)
		}
		if level == 0 {
			return &leaf{first: place * format.Fanout, end: (place + 1) * format.Fanout, node: n}, nil
		}
		span /= format.Fanout
		id = n.Children[place/span%format.Fanout]
	}
}
