package files

import (
	"encoding/binary"
	"fmt"
	"io/fs"
)

// dirData is where in a folder's address space its index begins, in bytes.
const dirData = 1 << 35

// ReadDir goes through the entries in the inode or through all blocks of data, and needs no index.
func (x *xfs) ReadDir(number uint64, fn func(name string, inode uint64) error) error {
	n, err := x.inode(number)
	if err != nil {
		return err
	}
	if !n.Mode.IsDir() {
		return fmt.Errorf("inode %d is no folder: %w", number, fs.ErrInvalid)
	}
	if n.format == xfsLocal {
		return x.short(n, fn)
	}
	c, err := x.content(n)
	if err != nil {
		return err
	}
	b := make([]byte, x.dirBlock)
	read := int64(0)
	for _, e := range c.extents {
		// Blocks of a folder may be put together of several extents: each is read where it begins.
		first := (e.Logical + x.dirBlock - 1) / x.dirBlock * x.dirBlock
		for off := first; off < min(e.Logical+e.Length, dirData); off += x.dirBlock {
			if read += x.dirBlock; read > maxDir {
				return fmt.Errorf("%w: a folder of more than %d bytes", ErrUnsupported, maxDir)
			}
			if err := c.fill(b, off); err != nil {
				return err
			}
			if err := x.entries(b, fn); err != nil {
				return fmt.Errorf("folder %d: %w", number, err)
			}
		}
	}
	return nil
}

func (x *xfs) typeSize() int {
	if x.ftype {
		return 1
	}
	return 0
}

// short reads entries that stand in the inode.
func (x *xfs) short(n *xfsInode, fn func(name string, inode uint64) error) error {
	b := n.fork
	if int64(len(b)) > n.Size {
		b = b[:n.Size]
	}
	if len(b) < 6 {
		return corrupt("folder %d is cut short", n.Inode)
	}
	count, size := int(b[0]), 4
	if b[1] != 0 {
		size = 8
	}
	b = b[min(len(b), 2+size):]
	for range count {
		if len(b) < 3 {
			return corrupt("folder %d is cut short", n.Inode)
		}
		nameLen := int(b[0])
		at := 3 + nameLen + x.typeSize()
		if at+size > len(b) {
			return corrupt("folder %d is cut short", n.Inode)
		}
		inode := uint64(binary.BigEndian.Uint32(b[at:]))
		if size == 8 {
			inode = binary.BigEndian.Uint64(b[at:])
		}
		if err := entry(string(b[3:3+nameLen]), inode, fn); err != nil {
			return err
		}
		b = b[at+size:]
	}
	return nil
}

// entries reads a block of data.
func (x *xfs) entries(b []byte, fn func(name string, inode uint64) error) error {
	be := binary.BigEndian
	header, end := 16, len(b)
	if x.v5 {
		header = 64
	}
	switch string(b[:4]) {
	case "XD2D", "XDD3":
	case "XD2B", "XDB3": // the only block: its index is at the end
		index := int64(be.Uint32(b[len(b)-8:]))*8 + 8
		if index > int64(len(b)-header) {
			return corrupt("a block with an index of %d bytes", index)
		}
		end -= int(index)
	default:
		return corrupt("a block of entries is none")
	}
	for b = b[header:end]; len(b) >= 8; {
		if be.Uint16(b) == 0xFFFF {
			n := int(be.Uint16(b[2:]))
			if n < 8 || n > len(b) {
				return corrupt("a free entry of %d bytes", n)
			}
			b = b[n:]
			continue
		}
		if len(b) < 12 {
			return corrupt("an entry is cut short")
		}
		nameLen := int(b[8])
		n := (9 + nameLen + x.typeSize() + 2 + 7) &^ 7
		if n > len(b) {
			return corrupt("an entry is cut short")
		}
		if err := entry(string(b[9:9+nameLen]), be.Uint64(b), fn); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
