package format

import (
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
)

// TreeBuilder makes a disk's tree from chunk ids in ascending order. Each node is emitted once, children before parents;
// gaps and zero ids cost nothing but the levels they cross. It belongs to one goroutine.
type TreeBuilder struct {
	hash   *chunker.Hasher
	chunks int64
	emit   func(level int, index int64, id chunker.ID, encoded []byte) error
	next   int64 // lowest index that Add takes
	levels []openNode
	buf    []byte
}

type openNode struct {
	node  Node
	index int64
	used  bool
}

// NewTreeBuilder builds a tree over that many chunks. node makes node ids. emit is called with an encoding that is good
// only during the call.
func NewTreeBuilder(node *chunker.Hasher, chunks int64, emit func(level int, index int64, id chunker.ID, encoded []byte) error) *TreeBuilder {
	b := &TreeBuilder{hash: node, chunks: chunks, emit: emit, levels: make([]openNode, Levels(chunks)), buf: make([]byte, 0, MaxNode)}
	for i := range b.levels {
		b.levels[i].node.Level = uint8(i)
	}
	return b
}

// Add places a chunk. Indexes ascend; those left out are zero.
func (b *TreeBuilder) Add(index int64, id chunker.ID) error {
	if index < b.next || index >= b.chunks {
		return fmt.Errorf("build tree: chunk %d after %d of %d", index, b.next-1, b.chunks)
	}
	b.next = index + 1
	if id.IsZero() {
		return nil
	}
	return b.place(0, index, id)
}

// place puts a child into the open node of a level, after closing one that ends before it.
func (b *TreeBuilder) place(level int, child int64, id chunker.ID) error {
	n := &b.levels[level]
	if n.used && n.index != child/Fanout {
		if err := b.close(level); err != nil {
			return err
		}
	}
	n.used, n.index = true, child/Fanout
	n.node.Children[child%Fanout] = id
	return nil
}

func (b *TreeBuilder) close(level int) error {
	n := &b.levels[level]
	b.buf = EncodeNode(b.buf[:0], &n.node)
	id, index := b.hash.NonZeroID(b.buf), n.index
	if err := b.emit(level, index, id, b.buf); err != nil {
		return err
	}
	n.used, n.node.Children = false, [Fanout]chunker.ID{}
	if level+1 == len(b.levels) {
		b.levels[level].node.Children[0] = id // the root, for Finish
		return nil
	}
	return b.place(level+1, index, id)
}

// Finish emits what is open and returns the root: Zero for a disk of zeros.
func (b *TreeBuilder) Finish() (root chunker.ID, err error) {
	for level := range b.levels {
		if b.levels[level].used {
			if err := b.close(level); err != nil {
				return chunker.Zero, err
			}
		}
	}
	return b.levels[len(b.levels)-1].node.Children[0], nil
}
