package files

import (
	"encoding/binary"
	"fmt"
)

const maxXFSTree = 9 // levels, as in Linux

// content maps an inode's data fork.
func (x *xfs) content(n *xfsInode) (*Content, error) {
	c := &Content{d: &x.d, size: n.Size}
	if n.raw&xfsRealtime != 0 {
		return nil, fmt.Errorf("%w: inode %d is on the realtime device", ErrUnsupported, n.Inode)
	}
	switch n.format {
	case xfsLocal:
		if n.Size > int64(len(n.fork)) {
			return nil, corrupt("inode %d holds %d bytes of %d", n.Inode, len(n.fork), n.Size)
		}
		c.inline = append([]byte{}, n.fork[:n.Size]...)
		return c, nil
	case xfsExtents:
		if n.extents > uint64(len(n.fork)/16) {
			return nil, corrupt("inode %d holds %d extents", n.Inode, n.extents)
		}
		return c, x.records(c, n.fork[:n.extents*16])
	case xfsBtree:
		be := binary.BigEndian
		if len(n.fork) < 4 {
			return nil, corrupt("inode %d has no room for a tree", n.Inode)
		}
		level, records, most := int(be.Uint16(n.fork)), int(be.Uint16(n.fork[2:])), (len(n.fork)-4)/16
		if level < 1 || level > maxXFSTree || records > most {
			return nil, corrupt("inode %d has a tree of %d levels with %d entries", n.Inode, level, records)
		}
		return c, x.pointers(c, n.fork[4+8*most:], records, level-1)
	}
	return nil, corrupt("inode %d of format %d", n.Inode, n.format)
}

func (x *xfs) pointers(c *Content, b []byte, records, level int) error {
	for i := range records {
		if err := x.node(c, binary.BigEndian.Uint64(b[8*i:]), level); err != nil {
			return err
		}
	}
	return nil
}

func (x *xfs) node(c *Content, block uint64, level int) error {
	at, err := x.at(block)
	if err != nil {
		return err
	}
	if err := c.block(); err != nil {
		return err
	}
	b := make([]byte, x.block)
	if err := x.d.read(b, at); err != nil {
		return err
	}
	magic, header := "BMAP", 24
	if x.v5 {
		magic, header = "BMA3", 72
	}
	records, most := int(binary.BigEndian.Uint16(b[6:])), (len(b)-header)/16
	if string(b[:4]) != magic || int(binary.BigEndian.Uint16(b[4:])) != level || records > most {
		return corrupt("node %d of a tree of extents", block)
	}
	if level > 0 {
		return x.pointers(c, b[header+8*most:], records, level-1)
	}
	return x.records(c, b[header:header+16*records])
}

// records unpacks extents: 1 bit never written, 54 place in the file, 52 block, 21 length.
func (x *xfs) records(c *Content, b []byte) error {
	for ; len(b) >= 16; b = b[16:] {
		hi, lo := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		if hi>>63 != 0 {
			continue
		}
		logical, length := int64(hi>>9&(1<<54-1)), int64(lo&(1<<21-1))
		at, err := x.at(hi&0x1FF<<43 | lo>>21)
		if err != nil {
			return err
		}
		if logical > 1<<45 {
			return corrupt("an extent at block %d of a file", logical)
		}
		if err := c.add(Extent{logical * x.block, at, length * x.block}); err != nil {
			return err
		}
	}
	return nil
}
