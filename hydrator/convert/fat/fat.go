// Package fat reads and writes a few small files on an EFI system partition that may have been made to harm: FAT16 and FAT32, in
// Go, because the kernel may lack the file system and because mounting is more than is needed.
//
// Chains and folders are bounded, a chain that leaves the disk or comes back to itself is an error, and no number in the
// boot sector is believed before it fits the device. A file is replaced by a change of its one folder entry after its
// content is written: what a crash leaves is the old file or the new one, and at worst clusters that nobody has.
// An FS belongs to one goroutine.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf16"
)

// Limits.
const (
	MaxFile    = 64 << 20 // bytes of a file that is read or written
	maxFolder  = 1 << 20  // bytes of a folder
	maxCluster = 128 << 10
)

// ErrDamaged says that the file system contradicts itself.
var ErrDamaged = errors.New("the FAT file system is damaged")

// Device is where the file system is.
type Device interface {
	io.ReaderAt
	io.WriterAt
}

// The boot sector, little-endian (Microsoft's FAT specification 1.03, section 3):
//
//	11 2  bytes of a sector    13 1  sectors of a cluster   14 2  reserved sectors   16 1  FATs
//	17 2  entries of the root folder, 0 with FAT32           19 2  sectors, or 0: 32 4
//	22 2  sectors of a FAT, or 0: 36 4                       44 4  first cluster of the root folder, with FAT32
//	48 2  sector of the free-space hint, with FAT32

// FS is an open file system.
type FS struct {
	dev      Device
	cluster  int64 // bytes
	fats     []int64
	fat32    bool
	root     uint32 // first cluster, with FAT32
	rootAt   int64  // otherwise its place and size
	rootSize int64
	data     int64  // where cluster 2 is
	last     uint32 // the highest cluster
	info     int64  // the free-space hint; 0: none
	next     uint32 // where the search for a free cluster goes on
}

// Open reads the boot sector of a file system of size bytes.
func Open(dev Device, size int64) (*FS, error) {
	b := make([]byte, 512)
	if _, err := dev.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("open FAT: %w", err)
	}
	le := binary.LittleEndian
	sector, perCluster := int64(le.Uint16(b[11:])), int64(b[13])
	reserved, copies, entries := int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint16(b[17:]))
	sectors, fatSectors := int64(le.Uint16(b[19:])), int64(le.Uint16(b[22:]))
	if sectors == 0 {
		sectors = int64(le.Uint32(b[32:]))
	}
	f := &FS{dev: dev, cluster: sector * perCluster, next: 2}
	if fatSectors == 0 {
		f.fat32, fatSectors, f.root = true, int64(le.Uint32(b[36:])), le.Uint32(b[44:])
		if n := int64(le.Uint16(b[48:])); n > 0 && n < reserved {
			f.info = n * sector
		}
	}
	switch {
	case b[510] != 0x55 || b[511] != 0xaa, sector < 512 || sector > 4096 || sector&(sector-1) != 0,
		perCluster == 0 || perCluster&(perCluster-1) != 0 || f.cluster > maxCluster, reserved == 0 || copies == 0 || copies > 4,
		fatSectors == 0 || fatSectors > 1<<22, sectors*sector > size, !f.fat32 && entries == 0:
		return nil, fmt.Errorf("open FAT: %w: its boot sector makes no sense", ErrDamaged)
	}
	for i := range copies {
		f.fats = append(f.fats, (reserved+i*fatSectors)*sector)
	}
	f.rootAt = (reserved + copies*fatSectors) * sector
	f.rootSize = entries * 32
	f.data = f.rootAt + (f.rootSize+sector-1)/sector*sector
	clusters := (sectors*sector - f.data) / f.cluster
	width := map[bool]int64{true: 4, false: 2}[f.fat32]
	switch {
	case clusters < 1 || clusters > 0x0ffffff5 || (clusters+2)*width > fatSectors*sector:
		return nil, fmt.Errorf("open FAT: %w: %d clusters do not fit", ErrDamaged, clusters)
	case !f.fat32 && clusters < 4085:
		return nil, errors.New("open FAT: FAT12 is not supported")
	}
	f.last = uint32(clusters) + 1
	return f, nil
}

// get reads what follows a cluster.
func (f *FS) get(c uint32) (uint32, error) {
	if c < 2 || c > f.last {
		return 0, fmt.Errorf("%w: there is no cluster %d", ErrDamaged, c)
	}
	b := make([]byte, 4)
	if f.fat32 {
		_, err := f.dev.ReadAt(b, f.fats[0]+int64(c)*4)
		return binary.LittleEndian.Uint32(b) & 0x0fffffff, err
	}
	_, err := f.dev.ReadAt(b[:2], f.fats[0]+int64(c)*2)
	return uint32(binary.LittleEndian.Uint16(b)), err
}

// end reports whether a number ends a chain.
func (f *FS) end(c uint32) bool { return f.fat32 && c >= 0x0ffffff8 || !f.fat32 && c >= 0xfff8 }

// set writes what follows a cluster into every copy of the table.
func (f *FS) set(c, v uint32) error {
	if c < 2 || c > f.last {
		return fmt.Errorf("%w: there is no cluster %d", ErrDamaged, c)
	}
	for _, at := range f.fats {
		b := make([]byte, 4)
		if !f.fat32 {
			binary.LittleEndian.PutUint16(b, uint16(v))
			if _, err := f.dev.WriteAt(b[:2], at+int64(c)*2); err != nil {
				return err
			}
			continue
		}
		if _, err := f.dev.ReadAt(b, at+int64(c)*4); err != nil {
			return err
		}
		// The upper four bits are not ours.
		binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)&0xf0000000|v&0x0fffffff)
		if _, err := f.dev.WriteAt(b, at+int64(c)*4); err != nil {
			return err
		}
	}
	return nil
}

// chain lists the clusters of a file of at most limit bytes.
func (f *FS) chain(first uint32, limit int64) ([]uint32, error) {
	var list []uint32
	if first == 0 {
		return nil, nil
	}
	for c := first; !f.end(c); {
		if int64(len(list))*f.cluster >= limit {
			return nil, fmt.Errorf("%w: a chain has no end", ErrDamaged)
		}
		list = append(list, c)
		next, err := f.get(c)
		if err != nil {
			return nil, err
		}
		c = next
	}
	return list, nil
}

func (f *FS) at(c uint32) int64 { return f.data + int64(c-2)*f.cluster }

// folder is the place of each piece of a folder.
type folder struct {
	pieces []piece
	first  uint32 // 0: the root of FAT16
}

type piece struct{ at, size int64 }

func (f *FS) folder(first uint32) (folder, error) {
	if first == 0 && !f.fat32 {
		return folder{pieces: []piece{{f.rootAt, f.rootSize}}}, nil
	}
	if first == 0 {
		first = f.root
	}
	list, err := f.chain(first, maxFolder)
	d := folder{first: first}
	for _, c := range list {
		d.pieces = append(d.pieces, piece{f.at(c), f.cluster})
	}
	return d, err
}

// Entry is a file or folder.
type Entry struct {
	Name  string // the long name if it has one
	Dir   bool
	Size  int64
	first uint32
	at    int64 // of its 32 bytes
}

// Bytes of an entry of a folder.
const (
	attrVolume, attrDir, attrArchive = 0x08, 0x10, 0x20
	attrLong                         = 0x0f
	deleted, noMore                  = 0xe5, 0x00
)

// entries reads a folder. Free are places for new entries.
func (f *FS) entries(d folder) (list []Entry, free []int64, err error) {
	var long []uint16
	ended := false
	for _, p := range d.pieces {
		b := make([]byte, p.size)
		if _, err := f.dev.ReadAt(b, p.at); err != nil {
			return nil, nil, err
		}
		for i := 0; i+32 <= len(b); i += 32 {
			e := b[i : i+32]
			switch {
			case ended || e[0] == noMore:
				ended = true
				free = append(free, p.at+int64(i))
			case e[0] == deleted:
				free = append(free, p.at+int64(i))
				long = nil
			case e[11]&0x3f == attrLong:
				long = append(longPart(e), long...)
				if len(long) > 260 {
					long = nil
				}
			case e[11]&attrVolume != 0:
				long = nil
			default:
				list = append(list, entry(e, long, p.at+int64(i)))
				long = nil
			}
		}
	}
	return list, free, nil
}

// longPart is the 13 characters of one part of a long name.
func longPart(e []byte) []uint16 {
	var u []uint16
	for _, r := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := r[0]; i < r[1]; i += 2 {
			c := binary.LittleEndian.Uint16(e[i:])
			if c == 0 || c == 0xffff {
				return u
			}
			u = append(u, c)
		}
	}
	return u
}

func entry(e []byte, long []uint16, at int64) Entry {
	le := binary.LittleEndian
	name := string(utf16.Decode(long))
	if name == "" {
		name = strings.TrimRight(string(e[:8]), " ")
		if ext := strings.TrimRight(string(e[8:11]), " "); ext != "" {
			name += "." + ext
		}
	}
	return Entry{Name: name, Dir: e[11]&attrDir != 0, Size: int64(le.Uint32(e[28:])), at: at,
		first: uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:]))}
}

// ReadDir lists a folder; "" is the root.
func (f *FS) ReadDir(name string) ([]Entry, error) {
	d, err := f.walk(name)
	if err != nil {
		return nil, fmt.Errorf("read folder %s: %w", name, err)
	}
	list, _, err := f.entries(d)
	return list, err
}

// walk opens the folder of that name.
func (f *FS) walk(name string) (folder, error) {
	d, err := f.folder(0)
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || err != nil {
			continue
		}
		var e *Entry
		if e, err = f.find(d, part); err == nil {
			if !e.Dir || e.first == 0 {
				return d, fs.ErrNotExist
			}
			d, err = f.folder(e.first)
		}
	}
	return d, err
}

func (f *FS) find(d folder, name string) (*Entry, error) {
	list, _, err := f.entries(d)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if strings.EqualFold(e.Name, name) {
			return &e, nil
		}
	}
	return nil, fs.ErrNotExist
}

// split separates the folder and the last part of a name.
func split(name string) (dir, last string) {
	name = strings.Trim(name, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

// ReadFile returns a file; fs.ErrNotExist if there is none of that name.
func (f *FS) ReadFile(name string) ([]byte, error) {
	dir, last := split(name)
	d, err := f.walk(dir)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	e, err := f.find(d, last)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case e.Dir || e.Size > MaxFile:
		return nil, fmt.Errorf("read %s: it is no file, or larger than %d MiB", name, MaxFile>>20)
	}
	list, err := f.chain(e.first, MaxFile+maxCluster)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(list))*f.cluster < e.Size {
		return nil, fmt.Errorf("read %s: %w: it has fewer clusters than its size", name, ErrDamaged)
	}
	b := make([]byte, int64(len(list))*f.cluster)
	for i, c := range list {
		if _, err := f.dev.ReadAt(b[int64(i)*f.cluster:][:f.cluster], f.at(c)); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return b[:e.Size], nil
}
