package files

import (
	"encoding/binary"
	"fmt"
)

const (
	extentMagic   = 0xF30A
	maxExtentTree = 5 // levels, as in Linux
	initMaxLen    = 1 << 15
	xattrMagic    = 0xEA020000
	xattrSystem   = 7
)

// content maps what an inode holds.
func (e *ext) content(n *extInode) (*Content, error) {
	c := &Content{d: &e.d, size: n.Size}
	switch {
	case n.flags&inodeEncrypted != 0:
		return nil, fmt.Errorf("%w: inode %d is encrypted", ErrUnsupported, n.Inode)
	case n.flags&inodeCompressed != 0:
		return nil, fmt.Errorf("%w: inode %d is compressed", ErrUnsupported, n.Inode)
	case n.flags&inodeInline != 0:
		b := append([]byte{}, n.raw[0x28:0x28+60]...)
		b = append(b, n.inlineRest()...)
		c.inline = b[:min(int64(len(b)), n.Size)]
		return c, nil
	case n.flags&inodeExtents != 0:
		return c, e.extents(c, n.raw[0x28:0x28+60], -1)
	}
	return c, e.pointers(c, n.raw[0x28:0x28+60])
}

// extents reads one node of an extent tree; depth is what it must have, -1 for the root.
func (e *ext) extents(c *Content, b []byte, depth int) error {
	le := binary.LittleEndian
	entries, d := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	if le.Uint16(b) != extentMagic || 12+12*entries > len(b) || d > maxExtentTree || depth >= 0 && d != depth {
		return corrupt("node of an extent tree with %d entries on level %d", entries, d)
	}
	for i := range entries {
		x := b[12+12*i:]
		if d > 0 {
			at, err := e.at(int64(le.Uint32(x[4:])) | int64(le.Uint16(x[8:]))<<32)
			if err != nil {
				return err
			}
			if err := c.block(); err != nil {
				return err
			}
			child := make([]byte, e.block)
			if err := e.d.read(child, at); err != nil {
				return err
			}
			if err := e.extents(c, child, d-1); err != nil {
				return err
			}
			continue
		}
		length := int64(le.Uint16(x[4:]))
		if length > initMaxLen {
			continue // allocated and never written: zeros
		}
		at, err := e.at(int64(le.Uint32(x[8:])) | int64(le.Uint16(x[6:]))<<32)
		if err != nil {
			return err
		}
		if err := c.add(Extent{int64(le.Uint32(x)) * e.block, at, length * e.block}); err != nil {
			return err
		}
	}
	return nil
}

// pointers reads the map of ext2 and ext3: 12 blocks, then trees of one, two and three levels.
func (e *ext) pointers(c *Content, b []byte) error {
	end := (c.size + e.block - 1) / e.block
	next := int64(0)
	if err := e.pointerBlock(c, b[:48], 0, &next, end); err != nil {
		return err
	}
	for level := 1; level <= 3; level++ {
		if err := e.pointerBlock(c, b[44+4*level:48+4*level], level, &next, end); err != nil {
			return err
		}
	}
	return nil
}

// pointerBlock goes through pointers to trees of that many levels; next is the file's block that the first of them begins with.
func (e *ext) pointerBlock(c *Content, b []byte, level int, next *int64, end int64) error {
	span := int64(1)
	for range level {
		span *= e.block / 4
	}
	for ; len(b) >= 4 && *next < end; b = b[4:] {
		p := int64(binary.LittleEndian.Uint32(b))
		if p == 0 {
			*next += span
			continue
		}
		at, err := e.at(p)
		if err != nil {
			return err
		}
		if level == 0 {
			if err := c.add(Extent{*next * e.block, at, e.block}); err != nil {
				return err
			}
			*next++
			continue
		}
		if err := c.block(); err != nil {
			return err
		}
		child := make([]byte, e.block)
		if err := e.d.read(child, at); err != nil {
			return err
		}
		after := *next + span
		if err := e.pointerBlock(c, child, level-1, next, end); err != nil {
			return err
		}
		*next = after
	}
	return nil
}

// inlineRest is what inline data has beyond the 60 bytes of the map: the value of the attribute system.data inside the inode.
func (n *extInode) inlineRest() []byte {
	le := binary.LittleEndian
	if len(n.raw) < 0x84 {
		return nil
	}
	start := 128 + int(le.Uint16(n.raw[0x80:]))
	if start+4 > len(n.raw) || le.Uint32(n.raw[start:]) != xattrMagic {
		return nil
	}
	body := n.raw[start+4:]
	for x := body; len(x) >= 16 && le.Uint32(x) != 0; {
		nameLen := int(x[0])
		if 16+nameLen > len(x) {
			return nil
		}
		if x[1] == xattrSystem && string(x[16:16+nameLen]) == "data" {
			off, size := int(le.Uint16(x[2:])), int64(le.Uint32(x[8:]))
			if off > len(body) || size > int64(len(body)-off) {
				return nil
			}
			return body[off : off+int(size)]
		}
		x = x[min(len(x), (16+nameLen+3)&^3):]
	}
	return nil
}
