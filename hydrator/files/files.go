// Package files reads files out of ext2, ext3, ext4 and XFS file systems from their bytes, without the kernel, a mount or root: in a copy of
// a server that nobody vouches for, the kernel's own code is the last that should meet them.
//
// The bytes are hostile. Reading is bounded: every place is checked to lie inside the volume, trees have a depth, maps and folders have a
// largest size, symbolic links a number of steps; what is not understood is refused, never guessed around. Checksums are not checked: a view
// has compared every byte with its id. Journals are not replayed: of a file system that was not frozen or unmounted (FS.Unclean says
// so where it can be seen), the last seconds may be missing or half there.
//
// An FS has no state but what it read when it was opened, and may be used by any number of goroutines at once.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/openmigrate/openmigrate/internal/partition"
	"github.com/openmigrate/openmigrate/internal/partition/fsprobe"
)

var (
	// ErrCorrupt: the file system contradicts itself or lies out of its bounds.
	ErrCorrupt = errors.New("file system is damaged")
	// ErrUnsupported: a kind or feature that this package does not read.
	ErrUnsupported = errors.New("not supported")
)

// Limits of what one file system can make us hold or do.
const (
	maxExtents = 1 << 20 // of one file
	maxMeta    = 1 << 18 // blocks of one file's map that are read
	maxDir     = 1 << 30 // bytes of one folder
	maxLink    = 4096    // bytes of a symbolic link
)

// Info is what a file system says of one inode.
type Info struct {
	Inode    uint64
	Mode     fs.FileMode
	Size     int64 // bytes
	ModTime  time.Time
	UID, GID uint32
}

// FS is an open file system.
type FS interface {
	// Type is ext4 (for ext2 and ext3, too) or xfs.
	Type() string
	// Unclean says that the journal holds changes that are not where they belong yet.
	Unclean() bool
	// Root is the inode of the topmost folder.
	Root() uint64
	Stat(inode uint64) (Info, error)
	// ReadDir calls fn for each entry of a folder but "." and "..", in no order; names are as they are stored: any bytes but "/" and NUL.
	ReadDir(inode uint64, fn func(name string, inode uint64) error) error
	// ReadLink is where a symbolic link points to.
	ReadLink(inode uint64) (string, error)
	// Open maps the content of a regular file.
	Open(inode uint64) (*Content, error)
}

// Open opens the file system in r, which has size bytes. It does not close r.
func Open(r io.ReaderAt, size int64) (FS, error) {
	c, err := fsprobe.Probe(r, size)
	if err != nil {
		return nil, fmt.Errorf("look for a file system: %w", err)
	}
	d := device{r: r, size: size}
	switch c.Type {
	case "ext2", "ext3", "ext4":
		return openExt(d)
	case "xfs":
		return openXFS(d)
	case "":
		return nil, fmt.Errorf("%w: there is no file system that is known here", ErrUnsupported)
	}
	return nil, fmt.Errorf("%w: %s cannot be read file by file; mount the disk and let the kernel read it ('restpoints mount')", ErrUnsupported, c.Type)
}

// Partition is the volume that a number names: 0 is the whole disk, unless it has exactly one partition with a file system.
func Partition(disk io.ReaderAt, size int64, number int) (*io.SectionReader, error) {
	t, err := partition.Read(disk, size, 0)
	if errors.Is(err, partition.ErrNone) {
		if number != 0 {
			return nil, fmt.Errorf("%w: the disk has no partitions", fs.ErrNotExist)
		}
		return io.NewSectionReader(disk, 0, size), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the partition table: %w", err)
	}
	var have string
	var only *io.SectionReader
	readable := 0
	for i := range t.Partitions {
		p := &t.Partitions[i]
		s := io.NewSectionReader(disk, p.Start, p.Size)
		if p.Number == number {
			return s, nil
		}
		c, err := fsprobe.Probe(s, p.Size)
		if err != nil {
			return nil, fmt.Errorf("look at partition %d: %w", p.Number, err)
		}
		switch c.Type {
		case "ext2", "ext3", "ext4", "xfs":
			only = s
			readable++
		case "":
			c.Type = p.TypeName
		}
		have += fmt.Sprintf(" %d (%s)", p.Number, c.Type)
	}
	if number == 0 && readable == 1 {
		return only, nil
	}
	return nil, fmt.Errorf("%w: name one of the disk's partitions:%s", fs.ErrNotExist, have)
}

// device reads inside its bounds.
type device struct {
	r    io.ReaderAt
	size int64
}

func (d *device) read(b []byte, off int64) error {
	if off < 0 || off > d.size || int64(len(b)) > d.size-off {
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrCorrupt, len(b), off, d.size)
	}
	if n, err := d.r.ReadAt(b, off); n < len(b) {
		return fmt.Errorf("read the volume: %w", err)
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// unixMode turns a mode of the disk into one of Go's.
func unixMode(m uint16) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	for _, b := range []struct {
		bit uint16
		is  fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if m&b.bit != 0 {
			mode |= b.is
		}
	}
	switch m >> 12 {
	case 1:
		mode |= fs.ModeNamedPipe
	case 2:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case 4:
		mode |= fs.ModeDir
	case 6:
		mode |= fs.ModeDevice
	case 8:
	case 10:
		mode |= fs.ModeSymlink
	case 12:
		mode |= fs.ModeSocket
	default:
		mode |= fs.ModeIrregular
	}
	return mode
}
