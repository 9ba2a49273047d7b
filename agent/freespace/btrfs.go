package freespace

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// Trees and item types of btrfs that are looked at (include/uapi/linux/btrfs_tree.h).
const (
	btrfsChunkTree     = 3
	btrfsDevTree       = 4
	btrfsFreeSpaceTree = 10

	btrfsFreeSpaceExtent = 199 // (start, type, length)
	btrfsFreeSpaceBitmap = 200 // (start, type, length): a bit for each sector, set if it is free
	btrfsDevExtent       = 204 // (device id, type, start on the device)
	btrfsChunkItem       = 228 // (256, type, logical start)

	btrfsChunkTreeObject = 256
)

// Kinds of block groups (BTRFS_BLOCK_GROUP_*). Each copy of a group of the linear kinds is one run of bytes on one device.
const (
	btrfsGroupSystem = 2
	btrfsGroupLinear = 1<<0 | 1<<2 | // data, metadata
		1<<4 | 1<<5 | 1<<9 | 1<<10 // RAID1, DUP, RAID1C3, RAID1C4
)

// btrfsKnownIncompat are the incompatible features with which what this file reads has the meaning that it relies on: bits 0 to 11
// and simple quotas. Zoned devices, the second extent tree, and the RAID stripe tree are not among them.
const btrfsKnownIncompat = 1<<12 - 1 | 1<<16

// btrfsSuper is what is taken from a superblock, which stands at 64 KiB of each device:
//
//	 32 16  id of the file system
//	 48  8  its own address
//	 64  8  "_BHRfS_M"
//	188  8  incompatible features
//	201  8  id of the device
//	267 16  UUID of the device
type btrfsSuper struct {
	fsid, uuid [16]byte
	device     uint64
}

const (
	btrfsSuperAt   = 64 << 10
	btrfsSuperSize = 4096
)

func parseBtrfsSuper(b []byte) (s btrfsSuper, err error) {
	le := binary.LittleEndian
	if len(b) < btrfsSuperSize || string(b[64:72]) != "_BHRfS_M" || le.Uint64(b[48:]) != btrfsSuperAt {
		return s, errors.New("it has no superblock")
	}
	if odd := le.Uint64(b[188:]) &^ btrfsKnownIncompat; odd != 0 {
		return s, fmt.Errorf("it has features that are not known here (%#x)", odd)
	}
	copy(s.fsid[:], b[32:])
	copy(s.uuid[:], b[267:])
	s.device = le.Uint64(b[201:])
	return s, nil
}

// A page of BTRFS_IOC_TREE_SEARCH_V2 (include/uapi/linux/btrfs.h), in the byte order of the machine: struct btrfs_ioctl_search_key, the
// size of the rest, then the items, each after its header.
//
//	key   0 8  tree                 header  0 8  transaction
//	      8 16 lowest and highest object    8 8  object
//	     24 16 offsets                     16 8  offset
//	     40 16 transactions                24 4  type
//	     56 8  types (4 each)              28 4  bytes of the item, which follow
//	     64 4  items wanted, and given
//	     68 36 zero
//	    104 8  bytes of room for items
const (
	btrfsSearchHead = 112
	btrfsItemHead   = 32
)

// btrfsKey is the key of an item; keys are ordered by object, type and offset.
type btrfsKey struct {
	object uint64
	typ    uint8
	offset uint64
}

func (k btrfsKey) compare(o btrfsKey) int {
	return cmp.Or(cmp.Compare(k.object, o.object), cmp.Compare(k.typ, o.typ), cmp.Compare(k.offset, o.offset))
}

// next is the lowest key above k; false: there is none.
func (k btrfsKey) next() (btrfsKey, bool) {
	if k.offset++; k.offset == 0 {
		if k.typ++; k.typ == 0 {
			k.object++
			return k, k.object != 0
		}
	}
	return k, true
}

// btrfsRequest fills buf to ask for the items of a tree from low to high.
func btrfsRequest(buf []byte, tree uint64, low, high btrfsKey) {
	ne := binary.NativeEndian
	clear(buf[:btrfsSearchHead])
	for i, v := range []uint64{tree, low.object, high.object, low.offset, high.offset, 0, ^uint64(0)} {
		ne.PutUint64(buf[8*i:], v)
	}
	ne.PutUint32(buf[56:], uint32(low.typ))
	ne.PutUint32(buf[60:], uint32(high.typ))
	ne.PutUint32(buf[64:], ^uint32(0))
	ne.PutUint64(buf[104:], uint64(len(buf)-btrfsSearchHead))
}

// btrfsItems hands the items of an answer to fn. It returns the key to go on from, or false if there were none. Keys must rise from low.
func btrfsItems(buf []byte, low btrfsKey, fn func(k btrfsKey, item []byte) error) (next btrfsKey, more bool, err error) {
	ne := binary.NativeEndian
	if len(buf) < btrfsSearchHead {
		return low, false, errors.New("the kernel's answer is cut short")
	}
	rest := buf[btrfsSearchHead:]
	for range ne.Uint32(buf[64:]) {
		if len(rest) < btrfsItemHead {
			return low, false, errors.New("the kernel's answer is cut short")
		}
		k := btrfsKey{ne.Uint64(rest[8:]), uint8(ne.Uint32(rest[24:])), ne.Uint64(rest[16:])}
		n := uint64(ne.Uint32(rest[28:]))
		if n > uint64(len(rest)-btrfsItemHead) {
			return low, false, errors.New("the kernel's answer is cut short")
		}
		if k.compare(low) < 0 {
			return low, false, errors.New("the kernel's answer is out of order")
		}
		if err := fn(k, rest[btrfsItemHead:][:n]); err != nil {
			return low, false, err
		}
		rest = rest[btrfsItemHead+n:]
		if low, more = k.next(); !more {
			return low, false, nil
		}
	}
	return low, more, nil
}

// btrfsMap gathers the free ranges of one device.
type btrfsMap struct {
	device uint64
	size   int64 // bytes of the device that the file system uses
	sector int64 // bytes of a bit in free space bitmaps
	add    func(start, end int64)

	end    int64 // of the device extents so far
	chunks []btrfsChunk
}

// btrfsChunk is one block group, by its logical addresses, and the places of its copies on the device.
type btrfsChunk struct {
	start, size uint64
	places      []int64
}

// btrfsMaxChunks bounds the block groups that are remembered: 1 GiB each as a rule, so far more than any file system has.
const btrfsMaxChunks = 1 << 20

// btrfsReserved are bytes of a device that belong to no block group, or to one without being in its free space tree, and are in use:
// the first MiB with boot loaders and the superblock, and the superblock's mirrors.
var btrfsReserved = Ranges{{0, 1 << 20}, {64 << 20, 64<<20 + 64<<10}, {256 << 30, 256<<30 + 64<<10}}

// free adds a range of the device, without what is reserved.
func (m *btrfsMap) free(start, end int64) {
	for _, r := range btrfsReserved {
		if start < r.Start && r.Start < end {
			m.add(start, r.Start)
		}
		if start < r.End && r.Start < end {
			start = r.End
		}
	}
	if start < end {
		m.add(start, end)
	}
}

// devExtent takes an item of the device tree: what lies between extents is free. It has the length at byte 24.
func (m *btrfsMap) devExtent(k btrfsKey, item []byte) error {
	if k.object != m.device || k.typ != btrfsDevExtent {
		return nil
	}
	if len(item) < 32 {
		return errors.New("a device extent is cut short")
	}
	length := binary.LittleEndian.Uint64(item[24:])
	if k.offset > 1<<60 || length > 1<<60 || int64(k.offset) < m.end {
		return errors.New("its device extents overlap")
	}
	m.free(m.end, min(int64(k.offset), m.size))
	m.end = int64(k.offset + length)
	return nil
}

// devEnd adds what is free after the last extent.
func (m *btrfsMap) devEnd() { m.free(m.end, m.size) }

// chunk takes an item of the chunk tree, a struct btrfs_chunk and its stripes:
//
//	 0 8  length         44 2  stripes
//	24 8  kind           48 …  each: device id 8, start on it 8, UUID of the device 16
func (m *btrfsMap) chunk(k btrfsKey, item []byte) error {
	if k.object != btrfsChunkTreeObject || k.typ != btrfsChunkItem {
		return nil
	}
	le := binary.LittleEndian
	if len(item) < 48 || len(m.chunks) >= btrfsMaxChunks {
		return errors.New("its block groups cannot be read")
	}
	c := btrfsChunk{start: k.offset, size: le.Uint64(item)}
	kind, stripes := le.Uint64(item[24:]), int(le.Uint16(item[44:]))
	if len(item) < 48+32*stripes || c.size > 1<<60 || c.start > 1<<60 {
		return errors.New("its block groups cannot be read")
	}
	if kind&^btrfsGroupLinear != 0 {
		return nil // striped, or a system group, which is small: data
	}
	for i := range stripes {
		s := item[48+32*i:]
		if at := le.Uint64(s[8:]); le.Uint64(s) == m.device && at <= 1<<60 {
			c.places = append(c.places, int64(at))
		}
	}
	if len(c.places) > 0 {
		m.chunks = append(m.chunks, c)
	}
	return nil
}

// sortChunks ends the reading of the chunk tree.
func (m *btrfsMap) sortChunks() error {
	slices.SortFunc(m.chunks, func(a, b btrfsChunk) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(m.chunks); i++ {
		if before := m.chunks[i-1]; before.start+before.size > m.chunks[i].start {
			return errors.New("its block groups overlap")
		}
	}
	return nil
}

// freeSpace takes an item of the free space tree.
func (m *btrfsMap) freeSpace(k btrfsKey, item []byte) error {
	switch k.typ {
	case btrfsFreeSpaceExtent:
		m.logical(k.object, k.offset)
	case btrfsFreeSpaceBitmap:
		bits := k.offset / uint64(m.sector)
		if uint64(len(item)) < (bits+7)/8 {
			return errors.New("a bitmap of its free space is cut short")
		}
		for i := uint64(0); i < bits; {
			if item[i/8]>>(i%8)&1 == 0 {
				i++
				continue
			}
			from := i
			for i < bits && item[i/8]>>(i%8)&1 == 1 {
				i++
			}
			m.logical(k.object+from*uint64(m.sector), (i-from)*uint64(m.sector))
		}
	}
	return nil
}

// logical adds a range of logical addresses, in all places where its block group is on the device.
func (m *btrfsMap) logical(start, length uint64) {
	i := sort.Search(len(m.chunks), func(i int) bool { return m.chunks[i].start+m.chunks[i].size > start })
	if i == len(m.chunks) || start < m.chunks[i].start {
		return
	}
	c := m.chunks[i]
	from := start - c.start
	length = min(length, c.size-from)
	for _, at := range c.places {
		m.free(at+int64(from), min(at+int64(from+length), m.size))
	}
}
