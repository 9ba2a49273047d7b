package reader

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// NodeError says that a tree node has no usable copy: what lies below it is unknown.
type NodeError struct {
	ID  chunker.ID
	Err error
}

func (e *NodeError) Error() string { return fmt.Sprintf("read tree node %s: %v", e.ID, e.Err) }

// Unwrap returns the cause.
func (e *NodeError) Unwrap() error { return e.Err }

// maxNodes is how many nodes are kept: at most 8 MiB.
const maxNodes = 4096

// Nodes implements format.NodeReader. A node without a usable copy gives a *NodeError.
func (r *Reader) Nodes(ctx context.Context, ids []chunker.ID) ([][]byte, error) {
	out := make([][]byte, len(ids))
	var wants []Want
	for i, id := range ids {
		if out[i] = r.nodes.get(id); out[i] == nil {
			wants = append(wants, Want{ID: id, Kind: format.KindNode, Index: int64(i)})
		}
	}
	if len(wants) == 0 {
		return out, nil
	}
	found, lost, why, err := r.resolve(ctx, wants)
	if err != nil {
		return nil, err
	}
	if len(lost) > 0 {
		return nil, &NodeError{lost[0].wants[0].ID, why[0]}
	}
	o, err := r.opener()
	if err != nil {
		return nil, err
	}
	defer r.openers.Put(o)
	buf, err := r.buffer(ctx)
	if err != nil {
		return nil, err
	}
	defer r.release(buf)
	for _, g := range plan(found, r.opts.MaxGet, r.opts.MaxGap) {
		l := load{group: g, buf: buf}
		if l.err = r.fetch(ctx, &g, buf); l.err != nil && !isDamage(l.err) {
			return nil, l.err
		}
		err := r.openGroup(ctx, o, &l, &scratch{}, Sink{
			Deliver: func(w Want, content []byte) error {
				out[w.Index] = bytes.Clone(content)
				r.nodes.put(w.ID, out[w.Index])
				return nil
			},
			Damaged: func(w Want, err error) error { return &NodeError{w.ID, err} },
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// nodeCache keeps the nodes that were used last.
type nodeCache struct {
	mu    sync.Mutex
	m     map[chunker.ID]*list.Element // guarded by mu
	order *list.List                   // of *cachedNode, newest first; guarded by mu
}

type cachedNode struct {
	id   chunker.ID
	node []byte
}

func newNodeCache() *nodeCache {
	return &nodeCache{m: map[chunker.ID]*list.Element{}, order: list.New()}
}

func (c *nodeCache) get(id chunker.ID) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.m[id]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedNode).node
}

func (c *nodeCache) put(id chunker.ID, node []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m[id] != nil {
		return
	}
	c.m[id] = c.order.PushFront(&cachedNode{id, node})
	if c.order.Len() > maxNodes {
		last := c.order.Back()
		c.order.Remove(last)
		delete(c.m, last.Value.(*cachedNode).id)
	}
}
