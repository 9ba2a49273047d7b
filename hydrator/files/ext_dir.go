package files

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"
)

// ReadDir goes through all blocks in order: those of the hash tree look like empty ones.
func (e *ext) ReadDir(number uint64, fn func(name string, inode uint64) error) error {
	n, err := e.inode(number)
	if err != nil {
		return err
	}
	if !n.Mode.IsDir() {
		return fmt.Errorf("inode %d is no folder: %w", number, fs.ErrInvalid)
	}
	c, err := e.content(n)
	if err != nil {
		return err
	}
	if c.inline != nil {
		// The first four bytes are the parent; what the attribute holds is a block of its own.
		if len(c.inline) < 4 {
			return corrupt("folder %d is cut short", number)
		}
		if err := extEntries(c.inline[4:min(60, len(c.inline))], fn); err != nil || len(c.inline) <= 60 {
			return err
		}
		return extEntries(c.inline[60:], fn)
	}
	if c.size > maxDir {
		return fmt.Errorf("%w: a folder of %d bytes", ErrUnsupported, c.size)
	}
	b := make([]byte, e.block)
	for off := int64(0); off < c.size; off += e.block {
		if err := c.fill(b, off); err != nil {
			return err
		}
		if err := extEntries(b, fn); err != nil {
			return err
		}
	}
	return nil
}

func extEntries(b []byte, fn func(name string, inode uint64) error) error {
	for len(b) >= 8 {
		inode, size, nameLen := binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint16(b[4:])), int(b[6])
		if size == 65535 || size == 0 && len(b) >= 65536 {
			size = 65536 &^ 3
		}
		if size == 0 && inode == 0 {
			return nil // a hole in the folder
		}
		if size < 8 || size > len(b) || inode != 0 && 8+nameLen > size {
			return corrupt("entry of a folder of %d bytes with a name of %d", size, nameLen)
		}
		if inode != 0 {
			if err := entry(string(b[8:8+nameLen]), uint64(inode), fn); err != nil {
				return err
			}
		}
		b = b[size:]
	}
	return nil
}

// entry passes on what can be a name.
func entry(name string, inode uint64, fn func(name string, inode uint64) error) error {
	if name == "." || name == ".." {
		return nil
	}
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return corrupt("a folder holds the name %q", name)
	}
	return fn(name, inode)
}
