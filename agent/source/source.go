// Package source is what an agent can replicate: whole disks, logical volumes and raw image files, behind one interface
// that later sources (virtual disks of a hypervisor, snapshots) join.
//
// A Source is a name that stays: its ID is the same after a reboot, and it can be kept between cycles. A Reader is one
// pass over it: its size is fixed at open, and it never returns bytes of anything but what was opened. If the thing
// shrinks, goes away or is exchanged while it is read, the Reader says so (ErrShrunk, ErrVanished) and the caller
// throws the pass away. The source is written to while it is read: a Reader gives each byte as it is at some moment
// between the call and the return of ReadAt; one instant for all is the business of snapshots and freezing.
//
// All methods of Source and Reader may be called from many goroutines at once; a Close waits for no one, and a read
// that comes after it fails with os.ErrClosed.
package source

import (
	"context"
	"io"
)

// Kind says what a Source is.
type Kind string

// The kinds.
const (
	Disk Kind = "disk" // a block device
	File Kind = "file" // a raw image file
)

// Source is one disk of a machine.
type Source interface {
	// ID is stable over reboots and changes of the kernel's device names: at most 160 bytes of [a-z0-9._:-].
	ID() string
	// Name is for people: a path. At most 255 bytes.
	Name() string
	// Kind says what it is.
	Kind() Kind
	// Size is the size in bytes now; a disk may grow between cycles. ErrVanished: there is none any more.
	Size(ctx context.Context) (int64, error)
	// Open starts a pass. ErrVanished: it is gone, or another device took its place.
	Open(ctx context.Context) (Reader, error)
}

// Reader is one pass over a Source.
type Reader interface {
	// ReadAt reads as io.ReaderAt says, at any offset and length into any buffer. It is fastest, and copies nothing,
	// where offset, length and the address of the buffer are multiples of Align (see AlignedBuffer). Errors other than
	// io.EOF are a *ReadError; the bytes before its Offset are in the buffer.
	io.ReaderAt

	// Size is the size in bytes when the pass started. Reads end there.
	Size() int64

	// NextData returns the first range [start, end) at or after off that may hold anything but zeros, so that holes
	// need not be read. Successive calls with off = end go through all data; io.EOF: there is none left. A source
	// that knows no holes returns [off, Size). Each call also checks that the source is still the one that was
	// opened, so a pass that reached io.EOF without an error read one and the same thing.
	NextData(off int64) (start, end int64, err error)

	// Align is the alignment in bytes that direct reads want; 1 where reads go through the page cache.
	Align() int

	// Close ends the pass.
	Close() error
}
