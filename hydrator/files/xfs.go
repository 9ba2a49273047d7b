package files

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"time"
)

// The layout is that of "XFS Algorithms & Data Structures" (xfs-documentation). All numbers are big-endian.
const (
	// ftype, sparse inodes, meta uuid, bigtime, needsrepair, nrext64, exchange range, parent pointers.
	xfsKnown = 0xFF

	xfsLocal   = 1
	xfsExtents = 2
	xfsBtree   = 3

	xfsRealtime = 1 << 0 // of di_flags
	xfsBigtime  = 1 << 3 // of di_flags2
	xfsNrext64  = 1 << 4
)

type xfs struct {
	d         device
	block     int64
	agBlocks  int64
	agCount   int64
	agLog     uint // bits of a block's number inside its group
	inodeLog  uint // bits of an inode's number inside its block
	inodeSize int64
	dirBlock  int64
	root      uint64
	v5, ftype bool
}

func openXFS(d device) (FS, error) {
	sb := make([]byte, 512)
	if err := d.read(sb, 0); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	version := be.Uint16(sb[100:])
	x := &xfs{
		d: d, block: int64(be.Uint32(sb[4:])), agBlocks: int64(be.Uint32(sb[84:])), agCount: int64(be.Uint32(sb[88:])), agLog: uint(sb[124]),
		inodeLog: uint(sb[123]), inodeSize: int64(be.Uint16(sb[104:])), root: be.Uint64(sb[56:]), v5: version&0xF == 5,
	}
	x.ftype = x.v5 && be.Uint32(sb[216:])&1 != 0 || !x.v5 && version&0x8000 != 0 && be.Uint32(sb[200:])&0x200 != 0
	pow2 := func(n, least, most int64) bool { return n >= least && n <= most && n&(n-1) == 0 }
	switch {
	case string(sb[:4]) != "XFSB":
		return nil, corrupt("not a superblock of XFS")
	case version&0xF != 4 && version&0xF != 5:
		return nil, fmt.Errorf("%w: XFS of version %d", ErrUnsupported, version&0xF)
	case x.v5 && be.Uint32(sb[216:])&^xfsKnown != 0:
		return nil, fmt.Errorf("%w: XFS with features %#x", ErrUnsupported, be.Uint32(sb[216:])&^xfsKnown)
	case !pow2(x.block, 512, 64<<10), !pow2(x.inodeSize, 256, 2048), x.inodeSize<<x.inodeLog != x.block, x.agBlocks == 0, x.agCount == 0,
		x.agLog > 31 || x.agBlocks > 1<<x.agLog, sb[192] > 7 || x.block<<sb[192] > 64<<10:
		return nil, corrupt("superblock with impossible sizes")
	}
	x.dirBlock = x.block << sb[192]
	return x, nil
}

func (x *xfs) Type() string { return "xfs" }

// Unclean is not told by anything outside of the log.
func (x *xfs) Unclean() bool { return false }
func (x *xfs) Root() uint64  { return x.root }

// at is where a block is, whose number holds the group.
func (x *xfs) at(block uint64) (int64, error) {
	group, in := block>>x.agLog, int64(block&(1<<x.agLog-1))
	if group >= uint64(x.agCount) || in >= x.agBlocks {
		return 0, corrupt("block %d", block)
	}
	return (int64(group)*x.agBlocks + in) * x.block, nil
}

type xfsInode struct {
	Info
	fork    []byte // of data
	format  uint8
	extents uint64
	raw     uint16 // flags
}

func (x *xfs) inode(number uint64) (*xfsInode, error) {
	at, err := x.at(number >> x.inodeLog)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	b := make([]byte, x.inodeSize)
	if err := x.d.read(b, at+int64(number&(1<<x.inodeLog-1))*x.inodeSize); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	version, core := b[4], 100
	if version == 3 {
		core = 176
	}
	if string(b[:2]) != "IN" || version < 1 || version > 3 || be.Uint16(b[2:]) == 0 {
		return nil, corrupt("inode %d is none", number)
	}
	n := &xfsInode{format: b[5], extents: uint64(be.Uint32(b[76:])), raw: be.Uint16(b[90:])}
	n.Info = Info{Inode: number, Mode: unixMode(be.Uint16(b[2:])), UID: be.Uint32(b[8:]), GID: be.Uint32(b[12:]), Size: int64(be.Uint64(b[56:]))}
	if n.Size < 0 {
		return nil, corrupt("inode %d has %d bytes", number, n.Size)
	}
	n.ModTime = time.Unix(int64(int32(be.Uint32(b[40:]))), int64(be.Uint32(b[44:])))
	if version == 3 {
		flags := be.Uint64(b[120:])
		if flags&xfsBigtime != 0 {
			ns := be.Uint64(b[40:])
			n.ModTime = time.Unix(int64(ns/1e9)-1<<31, int64(ns%1e9))
		}
		if flags&xfsNrext64 != 0 {
			n.extents = be.Uint64(b[24:])
		}
	}
	end := len(b)
	if fork := int(b[82]) * 8; fork != 0 {
		end = core + fork
	}
	if end > len(b) {
		return nil, corrupt("inode %d has its attributes at %d", number, end)
	}
	n.fork = b[core:end]
	return n, nil
}

func (x *xfs) Stat(number uint64) (Info, error) {
	n, err := x.inode(number)
	if err != nil {
		return Info{}, err
	}
	return n.Info, nil
}

func (x *xfs) Open(number uint64) (*Content, error) {
	n, err := x.inode(number)
	if err != nil {
		return nil, err
	}
	if !n.Mode.IsRegular() {
		return nil, fmt.Errorf("inode %d is no regular file: %w", number, fs.ErrInvalid)
	}
	return x.content(n)
}

// ReadLink puts together the extents of a long link, of which each has a header in version 5.
func (x *xfs) ReadLink(number uint64) (string, error) {
	n, err := x.inode(number)
	if err != nil {
		return "", err
	}
	if n.Mode.Type() != fs.ModeSymlink {
		return "", fmt.Errorf("inode %d is no symbolic link: %w", number, fs.ErrInvalid)
	}
	if n.Size > maxLink {
		return "", corrupt("a symbolic link of %d bytes", n.Size)
	}
	c, err := x.content(n)
	if err != nil {
		return "", err
	}
	if c.inline != nil || !x.v5 {
		b, err := c.all(maxLink)
		return string(b), err
	}
	const header = 56 // of each extent
	var link []byte
	for _, e := range c.extents {
		b := make([]byte, min(e.Length, header+maxLink))
		if err := c.fill(b, e.Logical); err != nil {
			return "", err
		}
		length := int64(binary.BigEndian.Uint32(b[8:]))
		if string(b[:4]) != "XSLM" || length > int64(len(b)-header) {
			return "", corrupt("a piece of link %d is none", number)
		}
		if link = append(link, b[header:header+length]...); int64(len(link)) > n.Size {
			break
		}
	}
	if int64(len(link)) != n.Size {
		return "", corrupt("link %d has %d bytes of %d", number, len(link), n.Size)
	}
	return string(link), nil
}
