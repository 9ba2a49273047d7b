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
