package format

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/openmigrate/openmigrate/chunker"
)

// Fanout is the number of children of a tree node, chosen by measurement (SPEC.md).
const Fanout = 64

// MaxLevels is the most node levels that a tree can have: 64^5 > chunker.MaxChunks.
const MaxLevels = 5

// MaxNode is the longest encoded node, in bytes.
const MaxNode = nodeHeader + Fanout*chunker.IDSize

// nodeHeader: level u8, zero u8, fan-out u16, bitmap of present children u64.
const nodeHeader = 12

// Node is one node of a disk's tree. On level 0 its children are chunk ids, above ids of nodes one level down. Zero: all of
// what that child covers is zero bytes.
type Node struct {
	Level    uint8
	Children [Fanout]chunker.ID
}

// EncodeNode appends n's only encoding to dst. n must have a child.
func EncodeNode(dst []byte, n *Node) []byte {
	var present uint64
	for i := range n.Children {
		if !n.Children[i].IsZero() {
			present |= 1 << i
		}
	}
	dst = append(dst, n.Level, 0)
	dst = binary.LittleEndian.AppendUint16(dst, Fanout)
	dst = binary.LittleEndian.AppendUint64(dst, present)
	for i := range n.Children {
		if present&(1<<i) != 0 {
			dst = append(dst, n.Children[i][:]...)
		}
	}
	return dst
}

// DecodeNode reads what EncodeNode writes and nothing else: ErrCorrupt for any other bytes.
func DecodeNode(b []byte, n *Node) error {
	if len(b) < nodeHeader || b[0] >= MaxLevels || b[1] != 0 || binary.LittleEndian.Uint16(b[2:]) != Fanout {
		return fmt.Errorf("%w: not a tree node", ErrCorrupt)
	}
	present := binary.LittleEndian.Uint64(b[4:])
	if present == 0 || len(b) != nodeHeader+bits.OnesCount64(present)*chunker.IDSize {
		return fmt.Errorf("%w: tree node of %d bytes with children %#x", ErrCorrupt, len(b), present)
	}
	n.Level = b[0]
	rest := b[nodeHeader:]
	for i := range n.Children {
		n.Children[i] = chunker.Zero
		if present&(1<<i) == 0 {
			continue
		}
		copy(n.Children[i][:], rest)
		rest = rest[chunker.IDSize:]
		if n.Children[i].IsZero() {
			return fmt.Errorf("%w: tree node with a zero child that is marked present", ErrCorrupt)
		}
	}
	return nil
}

// Levels is the number of node levels of a tree over that many chunks: at least one.
func Levels(chunks int64) int {
	n := 1
	for covers := int64(Fanout); covers < chunks; covers *= Fanout {
		n++
	}
	return n
}
