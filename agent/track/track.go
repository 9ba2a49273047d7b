// Package track tells which parts of a machine's disks were written since a restpoint, so that a cycle reads only those.
//
// A tracker marks, in grains of a few KiB, what is written to the disks that it watches, from before Watch returns until
// Close (and, where it can, also while no agent runs). It may mark more than was written. It may never mark less: a tracker
// that cannot prove that it saw every write says so (Changed returns no marks and a reason), and the disk is read whole.
//
// Marks are kept per epoch. A flip ends the epoch of all disks at one instant: a write that was submitted before it is in the
// marks that the flip returns, or in the next epoch's as well if it may land after the flip. Whoever reads what a flip
// returned, after the flip, has for each byte what it was at the flip or later, and what was later is marked again.
//
//	Start ── flip ──► Changed: all since the base ── read ──► Flip: since then ── read ──► … ──► Intend ── commit ──► Settle
//
// Until Settle the marks stay: a cycle that dies is begun again by the next Start, which returns them once more. After Intend
// and before Settle the marks count from both restpoints, the base and the intended one, because they cover the changes since
// either; so it does not matter whether the agent died before or after the master listed it.
package track

import (
	"context"
	"errors"
)

// ErrLost: a tracker stopped seeing all writes while a cycle ran; the cycle's result is no restpoint that a later one can
// build on. It wraps the reason.
var ErrLost = errors.New("change tracking lost sight of a disk")

// ErrBroken: a tracker failed in a way that it should not have. Close it and open another one, which must not go on where this one
// stopped. It wraps the reason.
var ErrBroken = errors.New("change tracking failed")

// Disk is one disk to watch.
type Disk struct {
	ID   string // source.Source.ID
	Path string // device node, or an image file that only a scan can follow
	Size int64  // bytes
}

// Status says what an operator should know of a disk's tracking.
type Status struct {
	Tracker string // "scan" or "ebpf"
	Why     string // why not a better one; empty when this is the best
	Grain   int64  // bytes for each mark; 0 for scan
	Memory  int64  // bytes of memory that the marks take
}

// Tracker watches the disks of a machine. Its methods belong to one goroutine. Its errors are ErrLost, a context's, those of wrong use, or
// ErrBroken.
type Tracker interface {
	// Watch makes the set of watched disks be disks. Those that were watched before, with the same size, keep their marks.
	// A disk that cannot be watched is no error: Status says why, and Changed asks for a scan.
	Watch(ctx context.Context, disks []Disk) error

	// Status is how a disk is watched.
	Status(disk string) Status

	// Start begins a cycle: it ends the epoch. A cycle before it that was neither settled nor closed is closed.
	Start(ctx context.Context) (Cycle, error)

	// Close lets go. Tracking goes on without the agent where the tracker can do that.
	Close() error
}

// Cycle is the tracking of one restpoint. Its methods belong to one goroutine.
type Cycle interface {
	// Changed returns what was written between the restpoint base and Start, or nil and the reason why that cannot be known,
	// in which case everything must be read. The marks belong to the caller.
	Changed(disk, base string) (marks *Marks, why string)

	// Flip ends the epoch on all disks at once and returns, by disk, what was written since Start or the Flip before. A disk that
	// is not watched has no entry. ErrLost: a disk whose marks counted at Start is not seen any more. The marks belong to the caller.
	Flip(ctx context.Context) (map[string]*Marks, error)

	// Intend notes durably, for as long as marks last, that restpoint is about to be committed, with everything that was
	// flipped so far. After it Flip may not be called.
	Intend(restpoint string) error

	// Settle notes that the intended restpoint was listed: marks of what was flipped are dropped.
	Settle() error

	// Close ends the cycle without forgetting marks.
	Close()
}

// Peeker is a Cycle that can say what was written since the last flip, or Start, without ending the epoch: Flip returns it again.
type Peeker interface {
	// Peek returns, by disk, what was written by now. A write that was submitted before the last flip and has not completed is not in it.
	Peek() (map[string]*Marks, error)
}
