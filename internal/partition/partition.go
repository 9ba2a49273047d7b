// Package partition reads partition tables from a device's bytes: GPT and MBR, without the kernel, which may know neither.
//
// The bytes are hostile. Reading is bounded (a few sectors, an entry array of at most 1 MiB, a chain of at most
// MaxPartitions extended records), every partition returned lies inside the device, and what is wrong with the table
// is told in Warnings rather than guessed around. The package has no state; its functions may be called from many
// goroutines at once.
package partition

import (
	"errors"
	"fmt"
	"io"
)

// MaxPartitions is the most partitions that a Table lists.
const MaxPartitions = 256

// maxWarnings bounds Table.Warnings.
const maxWarnings = 16

// ErrNone says that the device has no partition table.
var ErrNone = errors.New("no partition table")

// Scheme is a kind of partition table.
type Scheme string

// The schemes.
const (
	GPT Scheme = "gpt"
	MBR Scheme = "mbr"
)

// Table is what a device's partition table says.
type Table struct {
	Scheme     Scheme
	ID         string // GPT: the disk's GUID; MBR: its signature, 8 hexadecimal digits
	SectorSize int    // bytes; the unit of the table
	Backup     bool   // the primary GPT is damaged, this is the backup at the end of the device
	Partitions []Partition
	Warnings   []string // what was left out, and why
}

// Partition is one partition. Start and Size are bytes, multiples of the sector size, inside the device.
type Partition struct {
	Number   int // as Linux numbers it: logical partitions from 5
	Start    int64
	Size     int64
	Type     string // GPT: a GUID; MBR: two hexadecimal digits
	TypeName string // "" if not known
	Name     string // GPT only
	UUID     string // as in /dev/disk/by-partuuid
	Bootable bool
}

// Read finds the partition table of a device of size bytes. SectorSize is the device's logical sector size, 512 or 4096, or 0 if
// that is not known (an image file): then the place of the GPT decides, and 512 is assumed for MBR. It returns ErrNone if there is
// no table, and errors of r as they are.
func Read(r io.ReaderAt, size int64, sectorSize int) (*Table, error) {
	var sizes []int
	switch sectorSize {
	case 0:
		sizes = []int{512, 4096}
	case 512, 1024, 2048, 4096:
		sizes = []int{sectorSize}
	default:
		return nil, fmt.Errorf("read partition table: sector size %d is not supported", sectorSize)
	}
	if size < 2*512 {
		return nil, ErrNone
	}
	boot, err := readAt(r, 0, 512)
	if err != nil {
		return nil, fmt.Errorf("read partition table: %w", err)
	}
	mbr := parseBootSector(boot)
	if mbr == nil || mbr.protective() {
		for _, ss := range sizes {
			t, err := readGPT(r, size, int64(ss))
			if err == nil || !errors.Is(err, ErrNone) {
				return t, err
			}
		}
	}
	if mbr == nil {
		return nil, ErrNone
	}
	return mbr.table(r, size, int64(sizes[0]))
}

func (t *Table) warn(format string, args ...any) {
	if len(t.Warnings) < maxWarnings {
		t.Warnings = append(t.Warnings, fmt.Sprintf(format, args...))
	}
}

// add appends a partition of count sectors at first if it lies inside the device.
func (t *Table) add(p Partition, first, count uint64, size int64) {
	ss := uint64(t.SectorSize)
	total := uint64(size) / ss
	switch {
	case len(t.Partitions) >= MaxPartitions:
		t.warn("partition %d: left out: there are more than %d", p.Number, MaxPartitions)
	case count == 0 || first >= total || count > total-first:
		t.warn("partition %d: left out: %d sectors from sector %d are not inside the device of %d sectors", p.Number, count, first, total)
	default:
		p.Start, p.Size = int64(first*ss), int64(count*ss)
		t.Partitions = append(t.Partitions, p)
	}
}

// readAt reads n bytes at off; a device that ends before is like one that holds no table there.
func readAt(r io.ReaderAt, off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	m, err := r.ReadAt(b, off)
	if m == n {
		return b, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil, ErrNone
	}
	return nil, err
}
