// Package hydrator turns restpoints in staging back into disks. A node runs Run, which leases jobs from the master; the command
// line calls Export with a job that it holds itself. Both restore in the same way:
//
//	journal says what the volume holds ─► difference to the wanted tree ─► reader (fetch, open, verify) ─► write
//	      ▲                                                                                               │
//	      └── "writing" before the first byte, "holds" after the last, progress now and then ◄── sync ────┘
//
// Invariants. Nothing is written that was not verified against its id. A crash at any time leaves a volume that the next
// restore, of whatever restpoint, makes exact. A restore with damage ends in an error and its volume is never called whole.
//
// Every function here may be called by any number of goroutines; a volume is locked against a second restore.
package hydrator

import (
	"context"
	"fmt"
	"io"

	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// JobClient is what the holder of a job says to the master. wire.Client is one.
type JobClient interface {
	reader.Master
	RenewJob(ctx context.Context, job string, p *wire.Progress) (*wire.JobLease, error)
	CompleteJob(ctx context.Context, job string, r *wire.JobResult) error
	FailJob(ctx context.Context, job string, f *wire.Failure) error
}

// target is what a volume.Volume does here.
type target interface {
	io.WriterAt
	io.ReaderAt
	Path() string
	Device() bool
	Fresh() bool
	Size() int64
	Empty() error
	Identity() (volume.Identity, error)
	SetSize(size int64) error
	Zero(off, n int64) error
	Sync() error
	StartSync()
}

// ledger is what a journal.Journal does here.
type ledger interface {
	Found() bool
	State() journal.State
	Begin(v volume.Identity, to journal.Content, unknown bool) error
	BeginFresh(v volume.Identity, to journal.Content) error
	Advance(done int64) error
	Forget() error
	Finish(v volume.Identity) error
}

// restoreOptions say how one disk gets onto one volume.
type restoreOptions struct {
	overwrite bool   // write over something else
	owned     bool   // the volume was made for this: whatever is on it may go, and the rest of it behind the disk is ours, too
	verify    bool   // when it is in doubt what our volume holds, find out by reading it
	journal   string // path; empty: beside the volume
	progress  func(wire.Progress)
	batch     int   // wants that are planned at once; 0: 4096
	every     int64 // bytes of disk between two notes of progress in the journal; 0: 2 GiB
	wrap      func(target, ledger) (target, ledger)
}

const (
	defaultBatch = 4096
	defaultEvery = 2 << 30
)

// restore writes a disk of a restpoint onto the volume at path.
func restore(ctx context.Context, r *reader.Reader, rp *format.Restpoint, disk int, path string, o restoreOptions) (res wire.JobResult, err error) {
	if disk < 0 || disk >= len(rp.Disks) {
		return res, fmt.Errorf("restore disk %d: restpoint %s has disks 0 to %d", disk, rp.ID, len(rp.Disks)-1)
	}
	v, err := volume.Open(path)
	if err != nil {
		return res, err
	}
	defer func() {
		if cerr := v.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close %s: %w", path, cerr)
		}
	}()
	return restoreOnto(ctx, r, rp, &rp.Disks[disk], v, o)
}

// restoreOnto writes a disk onto an open volume, which stays open.
func restoreOnto(ctx context.Context, r *reader.Reader, rp *format.Restpoint, d *format.Disk, v *volume.Volume, o restoreOptions) (res wire.JobResult, err error) {
	name := o.journal
	if name == "" {
		if v.Device() {
			return res, fmt.Errorf("restore onto device %s: say where its journal is kept", v.Path())
		}
		name = v.Path() + journal.Suffix
	}
	var t target = v
	l, damaged := openJournal(name)
	if o.wrap != nil {
		t, l = o.wrap(t, l)
	}
	a := newApplier(r, t, l, rp, d, o)
	rehash, err := a.begin(damaged)
	if err != nil {
		return res, err
	}
	return a.run(ctx, rehash)
}

// openJournal returns an empty journal and the reason when the one at name cannot be read.
func openJournal(name string) (ledger, error) {
	j, err := journal.Open(name)
	if err != nil {
		return journal.New(name), err
	}
	return j, nil
}
