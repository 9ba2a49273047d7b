// Package fsprobe tells what a device or partition holds, from its bytes: file systems, swap, and the members of LVM, LUKS and
// md. It reads at most some hundred KiB at fixed places, believes nothing that it reads, and has no state; its functions
// may be called from many goroutines at once.
package fsprobe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Content is what was found. The zero value: nothing that this package knows. UUID and Label are as blkid prints them, without
// control characters, and empty where there is none.
type Content struct {
	Type  string // ext2, ext3, ext4, jbd, xfs, btrfs, vfat, exfat, ntfs, swap, lvm2, luks1, luks2, md
	UUID  string
	Label string
}

// headSize is what is read from the start: up to the end of a btrfs superblock.
const headSize = 68 << 10

// Probe looks at a device of size bytes. Containers are told before what they contain: an array with its metadata at the
// end looks like its file system from the start. Errors are those of r.
func Probe(r io.ReaderAt, size int64) (Content, error) {
	head, err := readUpTo(r, 0, headSize, size)
	if err != nil {
		return Content{}, fmt.Errorf("probe: %w", err)
	}
	if c, ok := mdHead(head); ok {
		return c, nil
	}
	c, ok, err := mdTail(r, size)
	if err != nil {
		return Content{}, fmt.Errorf("probe: %w", err)
	}
	if ok {
		return c, nil
	}
	for _, probe := range []func([]byte) (Content, bool){lvm, luks, btrfs, xfs, ext, swap, ntfs, exfat, vfat} {
		if c, ok := probe(head); ok {
			return c, nil
		}
	}
	return Content{}, nil
}

func lvm(b []byte) (Content, bool) {
	_, uuid, ok := pvLabel(b)
	return Content{Type: "lvm2", UUID: uuid}, ok
}

func luks(b []byte) (Content, bool) {
	if !has(b, 0, "LUKS\xba\xbe") || len(b) < 208 {
		return Content{}, false
	}
	c := Content{UUID: text(b[168:208])}
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		c.Type = "luks1"
	case 2:
		c.Type, c.Label = "luks2", text(b[24:72])
	}
	return c, c.Type != ""
}

func btrfs(b []byte) (Content, bool) {
	const super = 64 << 10
	if !has(b, super+64, "_BHRfS_M") || len(b) < super+4096 {
		return Content{}, false
	}
	b = b[super:]
	return Content{"btrfs", uuid(b[32:]), text(b[299 : 299+256])}, true
}

func xfs(b []byte) (Content, bool) {
	if !has(b, 0, "XFSB") || len(b) < 512 {
		return Content{}, false
	}
	return Content{"xfs", uuid(b[32:]), text(b[108:120])}, true
}

// ext tells the three apart by their features, as blkid does: a journal makes ext3, anything that ext3 cannot read makes ext4.
func ext(b []byte) (Content, bool) {
	if len(b) < 2048 || binary.LittleEndian.Uint16(b[1024+56:]) != 0xef53 {
		return Content{}, false
	}
	const (
		hasJournal    = 0x0004 // compatible
		journalDevice = 0x0008 // incompatible
		ext3Incompat  = 0x0002 | 0x0004 | 0x0010
		ext3ROCompat  = 0x0001 | 0x0002 | 0x0004
	)
	le, s := binary.LittleEndian, b[1024:]
	compat, incompat, ro := le.Uint32(s[92:]), le.Uint32(s[96:]), le.Uint32(s[100:])
	c := Content{"ext2", uuid(s[104:]), text(s[120:136])}
	switch {
	case incompat&journalDevice != 0:
		c.Type = "jbd"
	case incompat&^uint32(ext3Incompat) != 0 || ro&^uint32(ext3ROCompat) != 0:
		c.Type = "ext4"
	case compat&hasJournal != 0:
		c.Type = "ext3"
	}
	return c, true
}

// swap has its signature at the end of a page, whatever a page is there. A hibernated system is in it after S1SUSPEND.
func swap(b []byte) (Content, bool) {
	for _, page := range []int{4 << 10, 8 << 10, 16 << 10, 64 << 10} {
		switch {
		case has(b, page-10, "SWAPSPACE2"), has(b, page-10, "S1SUSPEND"), has(b, page-10, "S2SUSPEND"), has(b, page-10, "ULSUSPEND"):
			if binary.LittleEndian.Uint32(b[1024:]) == 1 {
				return Content{"swap", uuid(b[1024+12:]), text(b[1024+28 : 1024+44])}, true
			}
			return Content{Type: "swap"}, true
		case has(b, page-10, "SWAP-SPACE"):
			return Content{Type: "swap"}, true
		}
	}
	return Content{}, false
}

func ntfs(b []byte) (Content, bool) {
	if !has(b, 3, "NTFS    ") || !has(b, 510, "\x55\xaa") {
		return Content{}, false
	}
	return Content{Type: "ntfs", UUID: fmt.Sprintf("%016X", binary.LittleEndian.Uint64(b[72:]))}, true
}

func exfat(b []byte) (Content, bool) {
	if !has(b, 3, "EXFAT   ") || !has(b, 510, "\x55\xaa") {
		return Content{}, false
	}
	return Content{Type: "exfat", UUID: fatSerial(b[100:])}, true
}

// vfat gives the label of the boot sector; mkfs and dosfslabel keep it equal to that in the root folder.
func vfat(b []byte) (Content, bool) {
	if !has(b, 510, "\x55\xaa") {
		return Content{}, false
	}
	c := Content{Type: "vfat"}
	switch {
	case has(b, 82, "FAT32   "):
		c.UUID, c.Label = fatSerial(b[67:]), text(b[71:82])
	case has(b, 54, "FAT12   "), has(b, 54, "FAT16   "):
		c.UUID, c.Label = fatSerial(b[39:]), text(b[43:54])
	default:
		return Content{}, false
	}
	if c.Label == "NO NAME" {
		c.Label = ""
	}
	return c, true
}

func fatSerial(b []byte) string {
	n := binary.LittleEndian.Uint32(b)
	return fmt.Sprintf("%04X-%04X", n>>16, n&0xffff)
}

func has(b []byte, off int, want string) bool {
	return len(b) >= off+len(want) && string(b[off:off+len(want)]) == want
}

// uuid writes 16 bytes in the usual form; all zeros are no UUID.
func uuid(b []byte) string {
	if [16]byte(b[:16]) == ([16]byte{}) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// text is a string that ends at a zero or at the end of b, without padding and control characters.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "\ufffd")))
}

// readUpTo reads n bytes at off, or as many as there are.
func readUpTo(r io.ReaderAt, off int64, n int, size int64) ([]byte, error) {
	if off < 0 || off >= size {
		return nil, nil
	}
	b := make([]byte, min(int64(n), size-off))
	m, err := r.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:m], nil
}
