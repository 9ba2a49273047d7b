// Package freespace tells which bytes of a disk hold nothing that matters, so that a first pass need not read them: what
// mounted file systems say is free, and active swap.
//
// The invariant: every byte that Of calls free was free, or swap, at some moment between the call and its return, and is not
// referred to by what the file system's log or trees hold on the disk when Of returns. With change tracking that was
// started before the call, a byte that comes into use later is marked, and read by a later pass. Whatever is not known to
// be free is data: gaps between partitions, boot loaders, LVM and md metadata, file systems that are not mounted, everything
// below encryption or snapshots. DESIGN.md beside this file argues why each thing that is called free may be.
//
// The package has no state; Of may be called from many goroutines at once, and so may the methods of what Hide returns.
package freespace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Disk is what is to be looked at.
type Disk struct {
	Path string // a block device: a whole disk, a partition, a logical volume; or an image file, of which nothing is known
	Size int64  // bytes that the pass reads; 0: as large as the device is
}

// Options change what Of does. Nil is right for production.
type Options struct {
	// MaxRanges bounds the result; the smallest ranges are left out. 0: DefaultMaxRanges.
	MaxRanges int
}

// Note says what became of one part of a disk.
type Note struct {
	Device string // as it is in /dev: sda2, dm-0
	What   string // ext4, swap, …; "" if it is nothing that is known
	Free   int64  // bytes that were found to be free there, before small ranges were dropped
	Why    string // why nothing, or not all that is free, was used; "" if all was
}

// String is the note for people.
func (n Note) String() string {
	what := n.What
	if what == "" {
		what = "unknown content"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s: ", what, n.Device)
	if n.Free > 0 || n.Why == "" {
		fmt.Fprintf(&b, "%d bytes are free", n.Free)
		if n.Why != "" {
			b.WriteString("; ")
		}
	}
	b.WriteString(n.Why)
	return b.String()
}

// noTime is why what came too late was not looked at.
const noTime = "no time was left to look at it"

// maxNotes bounds the notes of one disk.
const maxNotes = 1024

// Of finds the free ranges of a disk. It writes back and commits what its mounted file systems hold in memory, twice (syncfs),
// and reads their allocation maps. When ctx runs out of time, what was found until then counts, and notes say what was not looked
// at; when it is cancelled, Of returns its error. A system call that is under way, a syncfs above all, is not cut short.
//
// An error means that the device could not be looked at; that a file system could not be is a Note.
func Of(ctx context.Context, disk Disk, opts *Options) (Ranges, []Note, error) {
	limit := DefaultMaxRanges
	if opts != nil && opts.MaxRanges > 0 {
		limit = opts.MaxRanges
	}
	info, err := os.Stat(disk.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("map free space: %w", err)
	}
	if info.Mode().IsRegular() {
		return nil, []Note{{Device: disk.Path, What: "image file", Why: "no file system is mounted from it by this name"}}, nil
	}
	vols, notes, err := discover(disk)
	if err != nil {
		return nil, nil, fmt.Errorf("map free space of %s: %w", disk.Path, err)
	}
	host, err := readHost()
	if err != nil {
		return nil, nil, fmt.Errorf("map free space of %s: %w", disk.Path, err)
	}
	all := &collector{max: limit}
	for _, v := range vols {
		found := &collector{max: limit}
		note := Note{Device: v.name}
		if err := ctx.Err(); err != nil {
			note.Why = noTime
		} else {
			note = v.examine(ctx, host, found)
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, nil, fmt.Errorf("map free space of %s: %w", disk.Path, ctx.Err())
		}
		for _, r := range found.list {
			note.Free += v.toDisk(r, all)
		}
		if note.What != "" || note.Why != "" {
			notes = append(notes, note)
		}
	}
	if len(notes) > maxNotes {
		notes = notes[:maxNotes]
	}
	return all.ranges(), notes, nil
}
