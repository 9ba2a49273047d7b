package catalog

import (
	"context"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Resolve says where ids are stored: in full where they are, else as the patch of least depth of which all that it stands on is there; of these in proven packs
// where there are any, else in any live one. Places that are quarantined, tombstoned or damaged are never given. At most wire.MaxOffer ids.
func (c *Catalog) Resolve(ctx context.Context, project string, ids []chunker.ID) ([]wire.Location, error) {
	return c.resolve(ctx, project, func(p *Pack) bool { return p.State == PackLive }, ids)
}

// ResolveFor is Resolve for a reader of a machine's restpoints: proven packs, else the machine's own. What another
// machine wrote and nobody has checked is never given.
func (c *Catalog) ResolveFor(ctx context.Context, project, machine string, ids []chunker.ID) ([]wire.Location, error) {
	return c.resolve(ctx, project, func(p *Pack) bool { return p.readable(machine) }, ids)
}

func (c *Catalog) resolve(ctx context.Context, project string, allowed func(*Pack) bool, ids []chunker.ID) ([]wire.Location, error) {
	if len(ids) > wire.MaxOffer {
		return nil, badRequest("%d ids in one request, at most %d", len(ids), wire.MaxOffer)
	}
	locs := make([]wire.Location, len(ids))
	err := c.db.View(ctx, func(r store.Reader) error {
		p, err := getProject(r, project)
		if err != nil {
			return err
		}
		l := newLookup(r, p.Number)
		for i := range ids {
			if ids[i].IsZero() {
				continue
			}
			if locs[i], err = l.locate(&ids[i], allowed); err != nil {
				return err
			}
		}
		return nil
	})
	return locs, err
}

// locate finds the best place of an id: that of least depth, then proven before unproven.
func (l *lookup) locate(id *chunker.ID, allowed func(*Pack) bool) (wire.Location, error) {
	var loc wire.Location
	best := 0
	err := l.each(id, func(x *indexRow, p *Pack) (bool, error) {
		rank := 1 + 2*(format.MaxDepth-int(x.entry.Depth))
		if !p.Proven.IsZero() {
			rank++
		}
		if rank <= best || !allowed(p) {
			return false, nil
		}
		ok, err := l.complete(&x.entry, allowed)
		if err != nil || !ok {
			return false, err
		}
		loc, best = wire.Location{Found: true, Pack: p.ID, Entry: x.entry}, rank
		return rank == 2+2*format.MaxDepth, nil
	})
	return loc, err
}
