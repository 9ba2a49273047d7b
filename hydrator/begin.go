package hydrator

import (
	"fmt"

	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/internal/aligned"
)

// begin decides whether the volume may be written, from what its journal says and from how it looks, and makes the
// decision durable. rehash says that nothing but reading tells what the volume holds. Nothing of the volume is changed before.
func (a *applier) begin(unreadable error) (rehash bool, err error) {
	if (a.v.Device() || a.o.owned) && a.v.Size() < a.to.Size {
		return false, a.v.SetSize(a.to.Size)
	}
	id, err := a.v.Identity()
	if err != nil {
		return false, err
	}
	switch {
	case a.v.Fresh():
		err = a.j.BeginFresh(id, a.to)
	case !a.j.Found():
		rehash, err = a.beginUnknown(id, unreadable)
	default:
		rehash, err = a.beginKnown(id)
	}
	if err != nil {
		return false, err
	}
	if err := a.v.SetSize(a.to.Size); err != nil {
		return false, err
	}
	return rehash, a.zeroRest()
}

// zeroRest clears what an earlier, larger disk left behind this one on a volume that is ours.
func (a *applier) zeroRest() error {
	st, from, end := a.j.State(), a.to.Size, a.v.Size()
	reused := st.Unknown
	for _, c := range st.Over {
		reused = reused || c.Size > a.to.Size
	}
	if !a.o.owned || !reused || from >= end {
		return nil
	}
	// Devices are zeroed from a full block on.
	head := min(-from&(aligned.Size-1), end-from)
	if err := a.v.Zero(from, head); err != nil {
		return err
	}
	return a.v.Zero(from+head, end-from-head)
}

// beginUnknown starts on a volume of which there is no journal: only over emptiness, by the operator's word, or if it is ours. Then another
// node may have written it, and reading it is cheaper than fetching all of it.
func (a *applier) beginUnknown(id volume.Identity, unreadable error) (rehash bool, err error) {
	if !a.o.overwrite || a.o.owned {
		err = a.v.Empty()
		if err == nil && unreadable != nil {
			err = fmt.Errorf("restore onto %s: %w: %w; --overwrite writes all of it again", a.v.Path(), volume.ErrNotEmpty, unreadable)
		}
		if rehash = a.o.owned && err != nil; !rehash && err != nil {
			return false, err
		}
	}
	return rehash, a.j.Begin(id, a.to, true)
}

// beginKnown starts on a volume whose journal was found, if that is to be believed.
func (a *applier) beginKnown(id volume.Identity) (rehash bool, err error) {
	st := a.j.State()
	held := st.Holds
	doubt := !st.Volume.SameObject(id)
	if held == nil {
		held = st.To
	} else {
		doubt = doubt || !st.Volume.Unchanged(id)
	}
	refuse := func(what string) (bool, error) {
		return false, fmt.Errorf("restore onto %s: %w: %s; give another target, or --overwrite to lose what is there", a.v.Path(), volume.ErrNotEmpty, what)
	}
	switch {
	case a.o.overwrite:
	case held.Machine != a.to.Machine || held.Disk != a.to.Disk:
		return refuse(fmt.Sprintf("disk %.100q of machine %.80s", held.Disk, held.Machine))
	case doubt && !a.o.verify:
		return refuse("it was changed or replaced since it was restored")
	}
	return doubt && a.o.verify || a.o.owned && st.Unknown, a.j.Begin(id, a.to, doubt)
}

// unknownFrom is the first chunk of which nothing is known: 0, or on a device what lies past all that was ever written there. A
// file reads as zeros where it was never written.
func unknownFrom(st *journal.State, to *journal.Content, device bool) int64 {
	from := int64(1) << 62
	if st.Unknown {
		return 0
	}
	if device {
		for _, c := range st.Over {
			from = min(from, c.Size/int64(to.ChunkSize))
		}
	}
	return from
}
