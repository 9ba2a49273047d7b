package reader

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// What a location may say (staging/format/SPEC.md): sealing adds a tag, and entries follow a header.
const (
	tagSize    = 16
	packHeader = 48
)

// Want is content that somebody wants. Raw is the length that it must have, in bytes; 0: any. Index and Batch mean
// something to the one who asks; wants are read in about the order in which they are asked for.
type Want struct {
	ID    chunker.ID
	Kind  format.Kind
	Raw   int
	Index int64
	Batch int
}

// item is one stored entry and all wants that it satisfies.
type item struct {
	loc   wire.Location
	wants []Want
}

// group is items that one GET brings.
type group struct {
	pack     format.PackID
	off, end int64 // of the object
	first    int   // lowest position of a want in the batch
	items    []item
}

// checkLocation refuses a location that no pack could have, so that nothing is allocated or read for it.
func checkLocation(l *wire.Location, w *Want) error {
	e := &l.Entry
	limit := uint32(chunker.MaxSize)
	if w.Kind == format.KindNode {
		limit = format.MaxNode
	}
	switch {
	case e.Kind != w.Kind || e.ID != w.ID:
		return fmt.Errorf("%w: location is of another kind or id", format.ErrCorrupt)
	case e.Codec > chunker.Zstd:
		return fmt.Errorf("%w: codec %d; upgrade this program", format.ErrVersion, e.Codec)
	case e.Raw == 0 || e.Raw > limit || w.Raw != 0 && int(e.Raw) != w.Raw:
		return fmt.Errorf("%w: location of %d raw bytes, want %d", format.ErrCorrupt, e.Raw, w.Raw)
	case e.Stored <= tagSize || e.Stored > e.Raw+tagSize:
		return fmt.Errorf("%w: location of %d stored bytes for %d", format.ErrCorrupt, e.Stored, e.Raw)
	case e.Offset < packHeader || int64(e.Offset)+int64(e.Stored) > format.MaxPack:
		return fmt.Errorf("%w: location at %d of a pack", format.ErrCorrupt, e.Offset)
	}
	return nil
}

// resolve asks where wants are stored. Wants of the same id become one item. Items without a usable location come back
// in lost, with the reason.
func (r *Reader) resolve(ctx context.Context, wants []Want) (found []item, lost []item, why []error, err error) {
	at := make(map[chunker.ID]int, len(wants))
	ids := make([]chunker.ID, 0, len(wants))
	items := make([]item, 0, len(wants))
	for _, w := range wants {
		i, ok := at[w.ID]
		if !ok {
			i = len(ids)
			at[w.ID] = i
			ids, items = append(ids, w.ID), append(items, item{})
		}
		items[i].wants = append(items[i].wants, w)
	}
	for start := 0; start < len(ids); start += wire.MaxOffer {
		batch := ids[start:min(len(ids), start+wire.MaxOffer)]
		locs, err := r.master.Resolve(ctx, r.job, batch)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("ask where %d ids are: %w", len(batch), err)
		}
		if len(locs) != len(batch) {
			return nil, nil, nil, fmt.Errorf("ask where %d ids are: the answer has %d", len(batch), len(locs))
		}
		for i := range locs {
			it := &items[start+i]
			it.loc = locs[i]
			bad := checkItem(it)
			if bad == nil {
				found = append(found, *it)
				continue
			}
			lost, why = append(lost, *it), append(why, bad)
		}
	}
	return found, lost, why, nil
}

func checkItem(it *item) error {
	if !it.loc.Found {
		return errNowhere
	}
	for i := range it.wants {
		if err := checkLocation(&it.loc, &it.wants[i]); err != nil {
			return err
		}
	}
	return nil
}

// plan groups items so that entries that lie near each other in a pack come with one GET, and orders the groups by what is
// wanted first.
func plan(items []item, maxGet, maxGap int) []group {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &items[a].loc, &items[b].loc
		return cmp.Or(slices.Compare(x.Pack[:], y.Pack[:]), cmp.Compare(x.Entry.Offset, y.Entry.Offset))
	})
	var groups []group
	for _, i := range order {
		l := &items[i].loc
		off, end := int64(l.Entry.Offset), int64(l.Entry.Offset)+int64(l.Entry.Stored)
		if n := len(groups) - 1; n >= 0 {
			g := &groups[n]
			if g.pack == l.Pack && off-g.end <= int64(maxGap) && max(end, g.end)-g.off <= int64(maxGet) {
				g.end, g.first = max(g.end, end), min(g.first, i)
				g.items = append(g.items, items[i])
				continue
			}
		}
		groups = append(groups, group{pack: l.Pack, off: off, end: end, first: i, items: []item{items[i]}})
	}
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(a.first, b.first) })
	return groups
}
