package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

const packAdvice = "openmigrate restpoints verify finds what needs it; agents that still have the content send it again"

// packRows goes through packs in the order in which the bucket lists their objects.
type packRows struct {
	g    *Collector
	page []catalog.Pack
	last *format.PackID
	end  bool
}

// upTo calls fn for all packs up to and with an id; nil: to the end.
func (r *packRows) upTo(ctx context.Context, id *format.PackID, fn func(*catalog.Pack) error) error {
	for {
		if len(r.page) == 0 {
			if r.end {
				return nil
			}
			if err := r.read(ctx); err != nil {
				return err
			}
			continue
		}
		p := &r.page[0]
		if id != nil && slices.Compare(p.ID[:], id[:]) > 0 {
			return nil
		}
		r.page = r.page[1:]
		if err := fn(p); err != nil {
			return err
		}
	}
}

func (r *packRows) read(ctx context.Context) error {
	const page = 2048
	rows := make([]catalog.Pack, 0, page)
	err := r.g.cat.PacksByID(ctx, r.last, page, func(p catalog.Pack) error {
		rows = append(rows, p)
		return nil
	})
	if r.page, r.end = rows, len(rows) < page; len(rows) > 0 {
		r.last = &rows[len(rows)-1].ID
	}
	return err
}

// packs merges the rows of packs with the list of objects.
func (k *check) packs(ctx context.Context) error {
	rows := packRows{g: k.g}
	var deep []catalog.Pack
	flush := func() error {
		err := k.compare(ctx, deep)
		deep = deep[:0]
		return err
	}
	without := func(p *catalog.Pack) error { return k.noObject(ctx, p) }
	err := k.g.bucket.List(ctx, packPrefix, "", func(o staging.Info) error {
		id, ok := parsePackName(o.Name)
		if !ok {
			k.orphan(o.Name, o.Size)
			return nil
		}
		k.report.Bytes += o.Size
		var row *catalog.Pack
		err := rows.upTo(ctx, &id, func(p *catalog.Pack) error {
			if p.ID == id {
				row = p
				return nil
			}
			return without(p)
		})
		if err != nil {
			return err
		}
		if row == nil {
			return k.noRow(ctx, id, o)
		}
		k.report.Packs++
		if row.State != catalog.PackLive {
			return nil
		}
		if row.Size != o.Size {
			k.broken(row, "it has %d bytes, the database says %d", o.Size, row.Size)
			return nil
		}
		if !k.opt.Deep {
			return nil
		}
		if deep = append(deep, *row); len(deep) < importBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	if err := rows.upTo(ctx, nil, without); err != nil {
		return err
	}
	return flush()
}

func (k *check) broken(p *catalog.Pack, format string, args ...any) {
	k.report.PacksBroken++
	k.report.add(p.ID.Name(), packAdvice, "pack: "+format, args...)
}

// noObject is for a row that the list had no object for. The object may have gone after its row was read, or come after the list.
func (k *check) noObject(ctx context.Context, p *catalog.Pack) error {
	k.report.Packs++
	if p.State != catalog.PackLive {
		return nil // announced and not put yet, or on its way out, or known to be damaged
	}
	now, err := k.g.cat.Pack(ctx, p.ID)
	if wire.HasCode(err, wire.CodeNotFound) || err == nil && now.State != catalog.PackLive {
		return nil
	}
	if err != nil {
		return err
	}
	_, there, err := k.g.stat(ctx, p.ID.Name())
	if err != nil || there {
		return err
	}
	k.broken(p, "its object is not in the bucket")
	return nil
}

// noRow is for an object without a row. The row may have come after rows were read, or have gone with the object after the list.
func (k *check) noRow(ctx context.Context, id format.PackID, o staging.Info) error {
	_, err := k.g.cat.Pack(ctx, id)
	if !wire.HasCode(err, wire.CodeNotFound) {
		return err
	}
	_, there, err := k.g.stat(ctx, o.Name)
	if err == nil && there {
		k.orphan(o.Name, o.Size)
	}
	return err
}

// compare reads the footers of packs and compares them with the index.
func (k *check) compare(ctx context.Context, packs []catalog.Pack) error {
	found := make([]error, len(packs))
	err := inParallel(ctx, len(packs), func(ctx context.Context, i int) error {
		err := k.compareOne(ctx, &packs[i])
		if err != nil && fatal(err) {
			return err
		}
		found[i] = err
		return nil
	})
	if err != nil {
		return err
	}
	for i, err := range found {
		if err == nil {
			continue
		}
		now, again := k.g.cat.Pack(ctx, packs[i].ID)
		if again == nil && now.State == catalog.PackLive {
			k.broken(&packs[i], "%v", err)
		} else if again != nil && !wire.HasCode(again, wire.CodeNotFound) {
			return again
		}
	}
	k.report.PacksRead += int64(len(packs))
	k.opt.Progress.tell("packs", k.report.PacksRead, 0)
	return nil
}

func (k *check) compareOne(ctx context.Context, p *catalog.Pack) error {
	keys := map[string]*format.Keys{p.Project: k.keys[p.Project]}
	_, entries, err := footer(ctx, k.g.bucket, keys, p.ID, p.Size)
	if err != nil {
		return err
	}
	ids, err := k.g.cat.PackContents(ctx, p.Seq)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: the database has no list of its entries", format.ErrCorrupt)
	}
	if err != nil {
		return err
	}
	if len(ids) != len(entries) || p.Entries != len(entries) {
		return fmt.Errorf("%w: it has %d entries, the database says %d", format.ErrCorrupt, len(entries), len(ids))
	}
	for i := range entries {
		if ids[i] != entries[i].ID {
			return fmt.Errorf("%w: entry %d is %s, the database says %s", format.ErrCorrupt, i, entries[i].ID, ids[i])
		}
	}
	return k.compareRows(ctx, p, ids, entries)
}

// compareRows looks at the index row of each entry.
func (k *check) compareRows(ctx context.Context, p *catalog.Pack, ids []chunker.ID, entries []format.Entry) error {
	same := make([]bool, len(entries))
	for start := 0; start < len(ids); start += markBatch {
		part := ids[start:min(len(ids), start+markBatch)]
		err := k.g.cat.Places(ctx, p.Project, part, func(i int, at *catalog.Place) error {
			if at.Pack.Seq == p.Seq && at.Entry == entries[start+i] {
				same[start+i] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if i := slices.Index(same, false); i >= 0 {
		return fmt.Errorf("%w: entry %d, %s, is not in the index as it is in the pack", format.ErrCorrupt, i, ids[i])
	}
	return nil
}
