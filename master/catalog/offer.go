package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Offer says which of ids the session need not send, and pins the packs in which they are. An id is known when it is in a
// pack that this machine may use, its own or a proven one, that is neither tombstoned nor quarantined.
//
// Most offers find nothing new to pin, so they are answered from a read transaction. When packs must be pinned, that is done,
// and all that led to it looked at again, in one write transaction: between the two a collector may have put a tombstone.
func (c *Catalog) Offer(ctx context.Context, machine, session string, ids []chunker.ID) (wire.Bitmap, error) {
	if len(ids) > wire.MaxOffer {
		return nil, badRequest("%d ids in one offer, at most %d", len(ids), wire.MaxOffer)
	}
	// In the order of the index neighbours share pages.
	order := make([]int, len(ids))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return slices.Compare(ids[a][:], ids[b][:]) })

	known := wire.NewBitmap(len(ids))
	var open []int // places in ids that are known if packs are pinned
	err := c.db.View(ctx, func(r store.Reader) error {
		o, err := c.newOffer(r, machine, session)
		if err != nil {
			return err
		}
		for _, i := range order {
			found, err := o.find(&ids[i])
			switch {
			case err != nil:
				return err
			case ids[i].IsZero() || found.pinned:
				known.Set(i)
			case found.pack != nil:
				open = append(open, i)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(open) > 0 {
		var found []int
		err = c.db.Update(ctx, func(w store.Writer) error {
			found = found[:0]
			o, err := c.newOffer(w, machine, session)
			if err != nil {
				return err
			}
			epoch, err := getUint(w, tableMeta, metaEpoch)
			if err != nil {
				return err
			}
			for _, i := range open {
				copy, err := o.find(&ids[i])
				if err != nil {
					return err
				}
				if copy.pack == nil {
					continue
				}
				if err := o.pin(w, copy.pack, epoch); err != nil {
					return err
				}
				for _, p := range copy.bases {
					if err := o.pin(w, p, epoch); err != nil {
						return err
					}
				}
				found = append(found, i)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, i := range found {
			known.Set(i)
		}
	}
	if !c.sessions.renew(session) {
		return nil, fenced("session %s was not renewed in time", session)
	}
	return known, nil
}

// offer is one transaction's look at the index on behalf of a session.
type offer struct {
	*lookup
	session string
	machine string
	pinned  map[uint64]bool // by pack seq, as far as it was asked
	pinKey  []byte
	best    known                                    // found by find
	choose  func(x *indexRow, p *Pack) (bool, error) // o.consider, made once
}

func (c *Catalog) newOffer(r store.Reader, machine, session string) (*offer, error) {
	s, err := c.openSession(r, machine, session)
	if err != nil {
		return nil, err
	}
	project, err := getProject(r, s.Project)
	if err != nil {
		return nil, err
	}
	return newSessionLookup(r, project.Number, &s), nil
}

func newSessionLookup(r store.Reader, project uint32, s *Session) *offer {
	o := &offer{lookup: newLookup(r, project), session: s.ID, machine: s.Machine, pinned: make(map[uint64]bool)}
	o.choose = o.consider
	return o
}

// known is what makes an id known: the pack that it is in, and those of what it stands on if it is a patch.
type known struct {
	pack   *Pack
	bases  []*Pack
	pinned bool // all
}

// better reports whether a is to be chosen over b: pinned, then of less depth, then proven.
func (a *known) better(b *known) bool {
	switch {
	case b.pack == nil || a.pinned != b.pinned:
		return b.pack == nil || a.pinned
	case len(a.bases) != len(b.bases):
		return len(a.bases) < len(b.bases)
	}
	return b.pack.Proven.IsZero()
}

// find returns what makes an id known, packs that are pinned already if there are such; a nil pack when it is not.
func (o *offer) find(id *chunker.ID) (known, error) {
	o.best = known{}
	if id.IsZero() {
		return o.best, nil
	}
	err := o.each(id, o.choose)
	return o.best, err
}

func (o *offer) consider(x *indexRow, p *Pack) (done bool, err error) {
	if !p.usable(o.machine) {
		return false, nil
	}
	k := known{pack: p}
	if k.pinned, err = o.isPinned(p.Seq); err != nil {
		return false, err
	}
	if x.entry.IsPatch() {
		var pinned, ok bool
		if k.bases, pinned, ok, err = o.stands(&x.entry); err != nil || !ok {
			return false, err
		}
		k.pinned = k.pinned && pinned
	}
	if k.better(&o.best) {
		o.best = k
	}
	return k.pinned, nil
}

// pin pins a pack unless it is.
func (o *offer) pin(w store.Writer, p *Pack, epoch uint64) error {
	pinned, err := o.isPinned(p.Seq)
	if err != nil || pinned {
		return err
	}
	o.pinned[p.Seq] = true
	return pin(w, o.session, p, epoch)
}

func (o *offer) isPinned(pack uint64) (bool, error) {
	if v, ok := o.pinned[pack]; ok {
		return v, nil
	}
	o.pinKey = appendPinKey(o.pinKey[:0], o.session, pack)
	v, err := exists(o.r, tablePins, o.pinKey)
	if err == nil {
		o.pinned[pack] = v
	}
	return v, err
}

func appendPinKey(dst []byte, session string, pack uint64) []byte {
	dst = append(dst, session...)
	dst = append(dst, 0)
	for shift := 56; shift >= 0; shift -= 8 {
		dst = append(dst, byte(pack>>shift))
	}
	return dst
}

// pin keeps a pack for a session, and tells a collector that began its mark before now to leave the pack alone.
func pin(w store.Writer, session string, p *Pack, epoch uint64) error {
	if err := w.Put(tablePins, appendPinKey(nil, session, p.Seq), nil); err != nil {
		return err
	}
	if p.Epoch == epoch {
		return nil
	}
	p.Epoch = epoch
	if err := putPack(w, p); err != nil {
		return fmt.Errorf("pin pack %s: %w", p.ID, err)
	}
	return nil
}
