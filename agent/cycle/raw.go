package cycle

import (
	"cmp"
	"fmt"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Raw says where written has marks that none of the file systems accounts for which the last freeze froze. It is asked within a freeze, too, and must not
// write to a file.
type Raw func(s source.Source, written *track.Marks) Stray

// Stray is where something wrote that was not frozen.
type Stray struct {
	Where    string // none of the mounted file systems; "" is nowhere
	Sure     bool   // that is a part of the disk which something else uses
	Unsynced string // a file system that cannot be frozen, and is whole only if nothing was written to it since it was synced; "": none
}

// maxWritten is how often file systems are frozen in vain for somebody who writes all the same.
const maxWritten = 4

// quiet fails with errWritten if anything but frozen file systems wrote since the last flip, or to one that can only be synced since the flip before. (They do, too: fstrim goes on, and btrfs does. It is of the next
// restpoint, and nothing that is in use changes by it.)
func (r *run) quiet() error {
	peeker, ok := r.track.(track.Peeker)
	if r.conf.Raw == nil || !ok {
		return nil
	}
	written, err := peeker.Peek()
	if err != nil {
		return fmt.Errorf("track changes: %w", err)
	}
	for _, d := range r.disks {
		// The epoch that ended within the freeze began before the last sync. If that had anything to write, more may have come while it wrote.
		unsynced := r.conf.Raw(d.src, d.since).Unsynced
		if m := written[d.src.ID()]; m != nil {
			s := r.conf.Raw(d.src, m)
			if s.Where != "" {
				return fmt.Errorf("%w: %s", errWritten, s.Where)
			}
			unsynced = cmp.Or(unsynced, s.Unsynced)
		}
		if unsynced != "" {
			return fmt.Errorf("%w: the file system on %s", errWritten, unsynced)
		}
	}
	return nil
}

// remember keeps what was written since the base, for lower.
func (r *run) remember(d *disk, m *track.Marks) {
	if r.conf.Raw == nil || m == nil {
		return
	}
	if d.written == nil {
		d.written = track.NewMarks(m.Size(), m.Grain())
	}
	d.written.Union(m)
}

// lower makes a restpoint crash-consistent at most if something that is no frozen file system has written to the disks since the base: who did was not asked to
// get its data in order.
func (r *run) lower() {
	if r.conf.Raw == nil || r.frozen.Consistency == format.Fuzzy || r.frozen.Consistency == format.Crash {
		return
	}
	for _, d := range r.disks {
		if d.written == nil {
			continue
		}
		if s := r.conf.Raw(d.src, d.written); s.Sure {
			r.frozen.Consistency = format.Crash
			r.frozen.Why = s.Where + " is written to by something else than a mounted file system, which was not asked to get its data in order"
			return
		}
	}
}
