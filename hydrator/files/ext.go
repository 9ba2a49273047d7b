package files

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"time"
)

// The layout is that of Documentation/filesystems/ext4 in Linux. All numbers are little-endian.
const (
	extMagic = 0xEF53

	incompatMetaBG  = 0x10
	incompat64      = 0x80
	incompatRecover = 0x4
	// filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed, largedir, inline_data, encrypt and casefold: what changes
	// the content of single files only is refused where it is met.
	incompatKnown = 0x2 | incompatRecover | incompatMetaBG | 0x40 | incompat64 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000

	inodeCompressed = 0x4
	inodeEncrypted  = 0x800
	inodeExtents    = 0x80000
	inodeInline     = 0x10000000
)

type ext struct {
	d                   device
	block               int64
	blocks              int64
	first               int64 // data block
	perGroup            int64 // blocks
	inodes, inodesGroup uint32
	inodeSize           int64
	descSize            int64
	metaFrom            int64 // group of blocks of descriptors from which on they lie in their groups
	sparse              bool
	unclean             bool
}

func openExt(d device) (FS, error) {
	sb := make([]byte, 1024)
	if err := d.read(sb, 1024); err != nil {
		return nil, err
	}
	u16 := func(at int) uint16 { return binary.LittleEndian.Uint16(sb[at:]) }
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(sb[at:]) }
	incompat := u32(0x60)
	if u16(0x38) != extMagic || u32(0x18) > 6 {
		return nil, corrupt("not a superblock of ext")
	}
	if unknown := incompat &^ incompatKnown; unknown != 0 {
		return nil, fmt.Errorf("%w: ext4 with features %#x", ErrUnsupported, unknown)
	}
	e := &ext{
		d: d, block: 1024 << u32(0x18), blocks: int64(u32(0x4)), first: int64(u32(0x14)), perGroup: int64(u32(0x20)), inodes: u32(0), inodesGroup: u32(0x28),
		inodeSize: 128, descSize: 32, metaFrom: 1 << 40, sparse: u32(0x64)&1 != 0, unclean: incompat&incompatRecover != 0,
	}
	if u32(0x4C) > 0 {
		e.inodeSize = int64(u16(0x58))
	}
	if incompat&incompat64 != 0 {
		e.blocks |= int64(u32(0x150)) << 32
		e.descSize = int64(u16(0xFE))
	}
	if incompat&incompatMetaBG != 0 {
		e.metaFrom = int64(u32(0x104))
	}
	switch {
	case e.inodeSize < 128 || e.inodeSize > e.block || e.inodeSize&(e.inodeSize-1) != 0, e.descSize < 32 || e.descSize > e.block,
		e.inodesGroup == 0, e.perGroup == 0, e.blocks <= 0 || e.blocks > 1<<48:
		return nil, corrupt("superblock with impossible sizes")
	}
	return e, nil
}

func (e *ext) Type() string  { return "ext4" }
func (e *ext) Unclean() bool { return e.unclean }
func (e *ext) Root() uint64  { return 2 }

// at is where a block is.
func (e *ext) at(block int64) (int64, error) {
	if block <= 0 || block >= e.blocks {
		return 0, corrupt("block %d of %d", block, e.blocks)
	}
	return block * e.block, nil
}

// descriptor is where a group's descriptor is.
func (e *ext) descriptor(group int64) int64 {
	perBlock := e.block / e.descSize
	n := group / perBlock
	super := 1024 / e.block // the block of the superblock, which is not the first of data when blocks are clustered
	block := super + 1 + n
	if n >= e.metaFrom {
		home := n * perBlock
		block = e.first + home*e.perGroup
		if e.hasSuper(home) {
			block++
		}
		if home == 0 && e.first < super {
			block++
		}
	}
	return block*e.block + group%perBlock*e.descSize
}

func (e *ext) hasSuper(group int64) bool {
	if !e.sparse || group <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

// extInode is an inode's bytes.
type extInode struct {
	Info
	raw   []byte
	flags uint32
}

func (e *ext) inode(number uint64) (*extInode, error) {
	if number == 0 || number > uint64(e.inodes) {
		return nil, corrupt("inode %d of %d", number, e.inodes)
	}
	group, index := int64(number-1)/int64(e.inodesGroup), int64(number-1)%int64(e.inodesGroup)
	desc := make([]byte, e.descSize)
	if err := e.d.read(desc, e.descriptor(group)); err != nil {
		return nil, err
	}
	table := int64(binary.LittleEndian.Uint32(desc[8:]))
	if e.descSize >= 64 {
		table |= int64(binary.LittleEndian.Uint32(desc[0x28:])) << 32
	}
	at, err := e.at(table)
	if err != nil {
		return nil, err
	}
	n := &extInode{raw: make([]byte, e.inodeSize)}
	if err := e.d.read(n.raw, at+index*e.inodeSize); err != nil {
		return nil, err
	}
	u16 := func(at int) uint16 { return binary.LittleEndian.Uint16(n.raw[at:]) }
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(n.raw[at:]) }
	n.flags = u32(0x20)
	n.Info = Info{Inode: number, Mode: unixMode(u16(0)), Size: int64(u32(4)), UID: uint32(u16(2)) | uint32(u16(0x78))<<16, GID: uint32(u16(0x18)) | uint32(u16(0x7A))<<16}
	if u16(0)>>12 == 8 || u16(0)>>12 == 4 { // of others the high half may be something else
		n.Size |= int64(u32(0x6C)) << 32
	}
	if n.Size < 0 {
		return nil, corrupt("inode %d has %d bytes", number, n.Size)
	}
	sec, nsec := int64(int32(u32(0x10))), int64(0)
	if e.inodeSize >= 0x8C && u16(0x80) >= 0x0C {
		extra := u32(0x88)
		sec, nsec = sec+int64(extra&3)<<32, int64(extra>>2)
	}
	n.ModTime = time.Unix(sec, nsec)
	return n, nil
}

func (e *ext) Stat(number uint64) (Info, error) {
	n, err := e.inode(number)
	if err != nil {
		return Info{}, err
	}
	return n.Info, nil
}

func (e *ext) ReadLink(number uint64) (string, error) {
	n, err := e.inode(number)
	if err != nil {
		return "", err
	}
	if n.Mode.Type() != fs.ModeSymlink {
		return "", fmt.Errorf("inode %d is no symbolic link: %w", number, fs.ErrInvalid)
	}
	if n.Size < 60 && n.flags&(inodeExtents|inodeInline|inodeEncrypted) == 0 {
		return string(n.raw[0x28 : 0x28+n.Size]), nil
	}
	c, err := e.content(n)
	if err != nil {
		return "", err
	}
	b, err := c.all(maxLink)
	return string(b), err
}

func (e *ext) Open(number uint64) (*Content, error) {
	n, err := e.inode(number)
	if err != nil {
		return nil, err
	}
	if !n.Mode.IsRegular() {
		return nil, fmt.Errorf("inode %d is no regular file: %w", number, fs.ErrInvalid)
	}
	return e.content(n)
}
