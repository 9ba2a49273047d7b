package format

import (
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
)

// TreeUpdate makes the tree of a disk of which some chunks changed out of an older tree over the same number of chunks, at a
// cost in proportion to the change. Over no older tree it makes a whole one.
type TreeUpdate struct {
	Node   *chunker.Hasher
	Chunks int64

	// Leaf fills all of dst with the ids of chunks from Fanout×index on, as they are now; zero past the end.
	Leaf func(index int64, dst *[Fanout]chunker.ID) error

	// Old fills dst with ids of the older tree's nodes of a level; zero past the end.
	Old func(level int, first int64, dst []chunker.ID) error

	// Emit takes each node on the way from a changed leaf to the root, level by level, in ascending order. A node of which nothing is
	// left is Zero, without an encoding. The encoding is good only during the call.
	Emit func(level int, index int64, id chunker.ID, encoded []byte) error
}

type changedNode struct {
	index int64
	id    chunker.ID
}

// Run updates the tree for leaves, which are all that may have changed, in ascending order, and returns the root.
func (u *TreeUpdate) Run(leaves func(yield func(index int64) bool)) (root chunker.ID, err error) {
	var changed []changedNode
	var n Node
	buf := make([]byte, 0, MaxNode)
	place := func(level int, index int64) error {
		id, enc := chunker.Zero, []byte(nil)
		if n.Children != [Fanout]chunker.ID{} {
			n.Level = uint8(level)
			enc = EncodeNode(buf[:0], &n)
			id = u.Node.NonZeroID(enc)
		}
		changed = append(changed, changedNode{index, id})
		return u.Emit(level, index, id, enc)
	}
	last := int64(-1)
	for index := range leaves {
		if index <= last || index*Fanout >= u.Chunks {
			return root, fmt.Errorf("update tree: leaf %d after %d of %d chunks", index, last, u.Chunks)
		}
		last = index
		if err := u.Leaf(index, &n.Children); err != nil {
			return root, err
		}
		if err := place(0, index); err != nil {
			return root, err
		}
	}
	top := Levels(u.Chunks) - 1
	for level := 1; level <= top; level++ {
		below := changed
		changed = nil
		for len(below) > 0 {
			index := below[0].index / Fanout
			if err := u.Old(level-1, index*Fanout, n.Children[:]); err != nil {
				return root, err
			}
			for len(below) > 0 && below[0].index/Fanout == index {
				n.Children[below[0].index%Fanout] = below[0].id
				below = below[1:]
			}
			if err := place(level, index); err != nil {
				return root, err
			}
		}
	}
	if len(changed) == 1 {
		return changed[0].id, nil
	}
	var one [1]chunker.ID
	err = u.Old(top, 0, one[:])
	return one[0], err
}

// Nodes is the number of nodes of a level of a tree over that many chunks.
func Nodes(chunks int64, level int) int64 {
	for range level + 1 {
		chunks = (chunks + Fanout - 1) / Fanout
	}
	return max(chunks, 1)
}
