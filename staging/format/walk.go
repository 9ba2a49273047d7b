package format

import (
	"context"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
)

// NodeReader fetches tree nodes. What it returns is encoded nodes in the order of ids, each verified against its id.
type NodeReader interface {
	Nodes(ctx context.Context, ids []chunker.ID) ([][]byte, error)
}

// Tree is a disk's tree: its root and how many chunks it covers.
type Tree struct {
	Root   chunker.ID
	Chunks int64
}

// DiffOptions say what Diff reports. Nil functions are not called.
type DiffOptions struct {
	// Leaf is called in ascending order for each chunk of the new tree whose id is not the old tree's at that index.
	Leaf func(index int64, old, new chunker.ID) error
	// Node is called for each node of the new tree that the old one does not have at that place, before it is read. If it
	// returns false what is below is passed over.
	Node func(level int, index int64, id chunker.ID) (descend bool, err error)
}

// Walk visits a whole tree: Diff against nothing.
func Walk(ctx context.Context, r NodeReader, root chunker.ID, chunks int64,
	visit func(level int, index int64, id chunker.ID) (descend bool, err error),
	leaf func(index int64, id chunker.ID) error) error {
	o := DiffOptions{Node: visit}
	if leaf != nil {
		o.Leaf = func(index int64, _, id chunker.ID) error { return leaf(index, id) }
	}
	return Diff(ctx, r, Tree{Chunks: chunks}, Tree{Root: root, Chunks: chunks}, &o)
}

// diffBatch is how many places of one level Diff looks at together: their nodes come with one call of the reader.
const diffBatch = 512

// Diff finds what is in the new tree and not at the same place in the old one. It reads only nodes where the two differ,
// at most 2×512 at a time, and holds at most that many for each level. Trees may differ in size; chunks that only the old
// one has are not reported. A hostile tree gives ErrCorrupt.
func Diff(ctx context.Context, r NodeReader, old, new Tree, o *DiffOptions) error {
	if old.Chunks < 0 || new.Chunks < 0 || max(old.Chunks, new.Chunks) > chunker.MaxChunks {
		return fmt.Errorf("%w: tree over %d and %d chunks", ErrCorrupt, old.Chunks, new.Chunks)
	}
	d := differ{ctx: ctx, r: r, o: o, old: old, new: new, oldLevels: Levels(old.Chunks), newLevels: Levels(new.Chunks)}
	top := max(d.oldLevels, d.newLevels) - 1
	return d.level(top, []pair{{old: old.Root, new: new.Root}})
}

type differ struct {
	ctx                  context.Context
	r                    NodeReader
	o                    *DiffOptions
	old, new             Tree
	oldLevels, newLevels int
}

// pair is one place of the two trees: a node of each at the same level and index.
type pair struct {
	index    int64
	old, new chunker.ID
}

// level goes through places of one level, in order, whose nodes may differ.
func (d *differ) level(level int, places []pair) error {
	// A tree with fewer levels is seen as one whose upper nodes have a single child.
	oldReal, newReal := level < d.oldLevels, level < d.newLevels
	want := places[:0]
	for _, p := range places {
		if p.new == p.old && oldReal == newReal || p.new.IsZero() && p.old.IsZero() {
			continue
		}
		if newReal && !p.new.IsZero() && d.o.Node != nil {
			descend, err := d.o.Node(level, p.index, p.new)
			if err != nil {
				return err
			}
			if !descend {
				continue
			}
		}
		want = append(want, p)
	}
	below := make([]pair, 0, min(len(want)*Fanout, diffBatch+Fanout))
	for part := range slices.Chunk(want, diffBatch) {
		nodes, err := d.fetch(level, part, oldReal, newReal)
		if err != nil {
			return err
		}
		for i, p := range part {
			if level == 0 {
				if err := d.leaves(p.index, &nodes[i]); err != nil {
					return err
				}
				continue
			}
			if below, err = d.children(level, p.index, &nodes[i], below); err != nil {
				return err
			}
			if len(below) >= diffBatch {
				if err := d.level(level-1, below); err != nil {
					return err
				}
				below = below[:0]
			}
		}
	}
	if len(below) == 0 {
		return nil
	}
	return d.level(level-1, below)
}

// both is the two decoded nodes of a place.
type both struct{ old, new Node }

func (d *differ) fetch(level int, places []pair, oldReal, newReal bool) ([]both, error) {
	nodes := make([]both, len(places))
	var ids []chunker.ID
	var to []*Node
	place := func(id chunker.ID, isReal bool, n *Node) {
		switch {
		case id.IsZero():
		case isReal:
			ids, to = append(ids, id), append(to, n)
		default:
			n.Children[0] = id // a place above this tree's root
		}
	}
	for i, p := range places {
		place(p.old, oldReal, &nodes[i].old)
		place(p.new, newReal, &nodes[i].new)
	}
	if len(ids) == 0 {
		return nodes, nil
	}
	encoded, err := d.r.Nodes(d.ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(encoded) != len(ids) {
		return nil, fmt.Errorf("read tree: %d nodes for %d ids", len(encoded), len(ids))
	}
	for i, b := range encoded {
		if err := DecodeNode(b, to[i]); err != nil {
			return nil, fmt.Errorf("node %s: %w", ids[i], err)
		}
		if int(to[i].Level) != level {
			return nil, fmt.Errorf("%w: node %s of level %d in level %d", ErrCorrupt, ids[i], to[i].Level, level)
		}
	}
	return nodes, nil
}

// children appends the places below a node in which the two trees may differ.
func (d *differ) children(level int, index int64, n *both, places []pair) ([]pair, error) {
	same := level-1 < d.oldLevels == (level-1 < d.newLevels)
	for c := range Fanout {
		child := index*Fanout + int64(c)
		old, new := n.old.Children[c], n.new.Children[c]
		if err := d.inside(level-1, child, new); err != nil {
			return nil, err
		}
		if !same || old != new {
			places = append(places, pair{index: child, old: old, new: new})
		}
	}
	return places, nil
}

func (d *differ) leaves(index int64, n *both) error {
	for c := range Fanout {
		chunk := index*Fanout + int64(c)
		old, new := n.old.Children[c], n.new.Children[c]
		if chunk >= d.new.Chunks && !new.IsZero() {
			return fmt.Errorf("%w: chunk %d of %d", ErrCorrupt, chunk, d.new.Chunks)
		}
		if chunk >= d.new.Chunks || old == new || d.o.Leaf == nil {
			continue
		}
		if err := d.o.Leaf(chunk, old, new); err != nil {
			return err
		}
	}
	return nil
}

// inside refuses a node of the new tree that lies past its last chunk.
func (d *differ) inside(level int, index int64, id chunker.ID) error {
	first := index
	for range level + 1 {
		first *= Fanout
	}
	if !id.IsZero() && first >= d.new.Chunks {
		return fmt.Errorf("%w: node %s lies past chunk %d", ErrCorrupt, id, d.new.Chunks)
	}
	return nil
}
