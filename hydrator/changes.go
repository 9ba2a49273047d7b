package hydrator

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/staging/format"
)

// change is a run of chunks that must hold id. Runs longer than one are zeros.
type change struct {
	index, count int64
	id           chunker.ID
}

// errOldTree: the tree of what the volume holds is not in staging any more, so the difference cannot be found in it.
var errOldTree = errors.New("tree of the volume's content cannot be read")

// errStop ends a Diff whose reader has seen enough.
var errStop = errors.New("stop")

// changes finds what must be written, in ascending order of index.
type changes struct {
	nodes   format.NodeReader
	to      format.Tree
	state   journal.State
	unknown int64                                              // chunks from here on may hold anything
	damaged func(id chunker.ID, first, end int64, cause error) // a node of the wanted tree that cannot be read; called once for each
	bad     map[chunker.ID]error
	told    map[chunker.ID]bool
}

// all merges the differences to each content that the volume may be a mixture of, and fills the gaps where nothing is known.
func (c *changes) all(ctx context.Context) iter.Seq2[change, error] {
	c.bad, c.told = map[chunker.ID]error{}, map[chunker.ID]bool{}
	if c.state.Unknown {
		return c.fill(c.diff(ctx, format.Tree{Chunks: c.to.Chunks}))
	}
	var merged iter.Seq2[change, error]
	for _, o := range c.state.Over {
		d := c.diff(ctx, format.Tree{Root: o.Root, Chunks: o.Layout().Chunks()})
		if merged == nil {
			merged = d
		} else {
			merged = union(merged, d)
		}
	}
	return c.fill(merged)
}

// diff goes over the difference to one tree. A damaged node is passed over: Diff starts anew behind what it had found.
func (c *changes) diff(ctx context.Context, old format.Tree) iter.Seq2[change, error] {
	return func(yield func(change, error) bool) {
		next := c.state.Done
		o := format.DiffOptions{
			Node: func(level int, index int64, id chunker.ID) (bool, error) {
				first, end := c.span(level, index)
				if end <= next {
					return false, nil
				}
				if cause := c.bad[id]; cause != nil {
					if !c.told[id] {
						c.told[id] = true
						c.damaged(id, first, end, cause)
					}
					return false, nil
				}
				return true, nil
			},
			Leaf: func(index int64, _, id chunker.ID) error {
				if index < next {
					return nil
				}
				next = index + 1
				if !yield(change{index, 1, id}, nil) {
					return errStop
				}
				return nil
			},
		}
		for {
			err := format.Diff(ctx, c.nodes, old, c.to, &o)
			var node *reader.NodeError
			switch {
			case err == nil || errors.Is(err, errStop):
				return
			case errors.As(err, &node) && c.bad[node.ID] == nil:
				c.bad[node.ID] = node.Err
				continue
			case errors.As(err, &node): // it was passed over in the wanted tree, so it is the old one that needs it
				err = fmt.Errorf("%w: %w", errOldTree, err)
			}
			yield(change{}, err)
			return
		}
	}
}

// span is the chunks that a node covers.
func (c *changes) span(level int, index int64) (first, end int64) {
	size := int64(1)
	for range level + 1 {
		size *= format.Fanout
	}
	return index * size, min((index+1)*size, c.to.Chunks)
}

// fill adds runs of zeros between the changes where the volume may hold anything.
func (c *changes) fill(in iter.Seq2[change, error]) iter.Seq2[change, error] {
	if c.unknown >= c.to.Chunks {
		return in
	}
	return func(yield func(change, error) bool) {
		next := max(c.unknown, c.state.Done)
		for ch, err := range in {
			if err != nil {
				yield(ch, err)
				return
			}
			if ch.index > next && !yield(change{next, ch.index - next, chunker.Zero}, nil) {
				return
			}
			if !yield(ch, nil) {
				return
			}
			next = max(next, ch.index+ch.count)
		}
		if next < c.to.Chunks {
			yield(change{next, c.to.Chunks - next, chunker.Zero}, nil)
		}
	}
}

// union merges two ascending sequences; what is in both comes once.
func union(a, b iter.Seq2[change, error]) iter.Seq2[change, error] {
	return func(yield func(change, error) bool) {
		nextA, stopA := iter.Pull2(a)
		defer stopA()
		nextB, stopB := iter.Pull2(b)
		defer stopB()
		x, errX, okX := nextA()
		y, errY, okY := nextB()
		for okX || okY {
			if err := errors.Join(errX, errY); err != nil {
				yield(change{}, err)
				return
			}
			takeX := okX && (!okY || x.index <= y.index)
			takeY := okY && (!okX || y.index <= x.index)
			ch := y
			if takeX {
				ch = x
			}
			if !yield(ch, nil) {
				return
			}
			if takeX {
				x, errX, okX = nextA()
			}
			if takeY {
				y, errY, okY = nextB()
			}
		}
	}
}
