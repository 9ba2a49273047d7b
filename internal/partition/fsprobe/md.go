package fsprobe

import (
	"encoding/binary"
	"io"
)

// Superblocks of md arrays, little-endian. Version 1 lies at the start (1.1), 4 KiB after it (1.2), or near the end (1.0);
// version 0.90 in the last whole 64 KiB but one.
//
//	version 1:  0  4  a92b4efc   4  4  1   16 16  UUID of the array   32 32  name   144  8  sector of this superblock
//	0.90:       0  4  a92b4efc   4  4  0   8   4  90    20 4, 52 12  UUID of the array
const (
	mdMagic     = 0xa92b4efc
	mdSuperSize = 256
)

func mdHead(b []byte) (Content, bool) {
	for _, off := range []int{0, 4096} {
		if len(b) >= off+mdSuperSize {
			if c, ok := md1(b[off:], int64(off)); ok {
				return c, true
			}
		}
	}
	return Content{}, false
}

func mdTail(r io.ReaderAt, size int64) (Content, bool, error) {
	off := (size - 8<<10) &^ (4<<10 - 1)
	b, err := readUpTo(r, off, mdSuperSize, size)
	if err != nil {
		return Content{}, false, err
	}
	if c, ok := md1(b, off); ok {
		return c, true, nil
	}
	b, err = readUpTo(r, size&^(64<<10-1)-64<<10, mdSuperSize, size)
	if err != nil {
		return Content{}, false, err
	}
	le := binary.LittleEndian
	if len(b) < mdSuperSize || le.Uint32(b) != mdMagic || le.Uint32(b[4:]) != 0 || le.Uint32(b[8:]) != 90 {
		return Content{}, false, nil
	}
	id := append(append([]byte(nil), b[20:24]...), b[52:64]...)
	return Content{Type: "md", UUID: uuid(id)}, true, nil
}

func md1(b []byte, off int64) (Content, bool) {
	le := binary.LittleEndian
	if len(b) < mdSuperSize || le.Uint32(b) != mdMagic || le.Uint32(b[4:]) != 1 || le.Uint64(b[144:]) != uint64(off)/512 {
		return Content{}, false
	}
	return Content{Type: "md", UUID: uuid(b[16:]), Label: text(b[32:64])}, true
}
