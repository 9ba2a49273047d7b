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

// Want is content that somebody wants. Raw is the length that it must have, in bytes; 0: any. Less is the depth that it must be below (format.Entry); 0: any.
// It is set for the bases of patches, so that opening something comes to an end. Index and Batch mean something to the one who asks; wants are
// read in about the order in which they are asked for.
type Want struct {
	ID    chunker.ID
	Kind  format.Kind
	Raw   int
	Less  uint8
	Index int64
	Batch int
}

// item is one stored entry and all wants that it satisfies.
type item struct {
	loc   wire.Location
	chain []wire.Location // of a patch: where its base is, and so on; the last is stored in full
	wants []Want

	chainAt []int64 // where in the group's buffer each of chain is, once it is fetched
	baseErr error   // why one could not be
}

// group is items that one GET brings, and some more what patches among them stand on.
type group struct {
	pack     format.PackID
	off, end int64 // of the object
	bases    int64 // bytes of the bases, as stored
	first    int   // lowest position of a want in the batch
	items    []item
}

// checkLocation refuses a location that no pack could have, so that nothing is allocated or read for it.
func checkLocation(l *wire.Location, w *Want) error {
	e := &l.Entry
	if e.Kind != w.Kind || e.ID != w.ID {
		return fmt.Errorf("%w: location is of another kind or id", format.ErrCorrupt)
	}
	if err := e.Check(); err != nil {
		return fmt.Errorf("location: %w", err)
	}
	switch {
	case w.Raw != 0 && int(e.Raw) != w.Raw:
		return fmt.Errorf("%w: location of %d raw bytes, want %d", format.ErrCorrupt, e.Raw, w.Raw)
	case w.Less != 0 && e.Depth >= w.Less:
		return fmt.Errorf("%w: it has depth %d, and should be below %d", format.ErrCorrupt, e.Depth, w.Less)
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
	locs, err := r.ask(ctx, ids)
	if err != nil {
		return nil, nil, nil, err
	}
	bad := make([]error, len(items))
	for i := range items {
		items[i].loc = locs[i]
		bad[i] = checkItem(&items[i])
	}
	if err := r.resolveBases(ctx, items, bad); err != nil {
		return nil, nil, nil, err
	}
	for i := range items {
		if bad[i] == nil {
			found = append(found, items[i])
			continue
		}
		lost, why = append(lost, items[i]), append(why, bad[i])
	}
	return found, lost, why, nil
}

// ask asks the master where ids are, as often as it takes.
func (r *Reader) ask(ctx context.Context, ids []chunker.ID) ([]wire.Location, error) {
	all := make([]wire.Location, 0, len(ids))
	for batch := range slices.Chunk(ids, wire.MaxOffer) {
		locs, err := r.master.Resolve(ctx, r.job, batch)
		if err != nil {
			return nil, fmt.Errorf("ask where %d ids are: %w", len(batch), err)
		}
		if len(locs) != len(batch) {
			return nil, fmt.Errorf("ask where %d ids are: the answer has %d", len(batch), len(locs))
		}
		all = append(all, locs...)
	}
	return all, nil
}

// resolveBases finds what the items that are patches stand on, and says in bad what is wrong with those of which it does not. Each
// step has less depth than the one before.
func (r *Reader) resolveBases(ctx context.Context, items []item, bad []error) error {
	for {
		var ids []chunker.ID
		var of []int
		for i := range items {
			if e := items[i].lowest(); bad[i] == nil && e.IsPatch() {
				ids, of = append(ids, e.Base), append(of, i)
			}
		}
		if len(ids) == 0 {
			return nil
		}
		locs, err := r.ask(ctx, ids)
		if err != nil {
			return err
		}
		for n, i := range of {
			it, err := &items[i], errNowhere
			if locs[n].Found {
				w := baseWant(it.lowest())
				err = checkLocation(&locs[n], &w)
			}
			if err != nil {
				bad[i] = fmt.Errorf("pack %s entry %s: base %s: %w", it.loc.Pack, it.loc.Entry.ID, ids[n], err)
				continue
			}
			it.chain = append(it.chain, locs[n])
		}
	}
}

// lowest is the last entry that is known of what an item stands on.
func (it *item) lowest() *format.Entry {
	if n := len(it.chain); n > 0 {
		return &it.chain[n-1].Entry
	}
	return &it.loc.Entry
}

// bases is how many bytes are read for what the item stands on.
func (it *item) bases() (n int64) {
	for i := range it.chain {
		n += int64(it.chain[i].Entry.Stored)
	}
	return n
}

// baseWant is what a patch stands on.
func baseWant(e *format.Entry) Want {
	return Want{ID: e.Base, Kind: format.KindChunk, Raw: int(e.Raw), Less: e.Depth}
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
// wanted first. The bases of patches count: maxGet is what a group takes in memory.
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
		base := items[i].bases()
		if n := len(groups) - 1; n >= 0 {
			g := &groups[n]
			if g.pack == l.Pack && off-g.end <= int64(maxGap) && max(end, g.end)-g.off+g.bases+base <= int64(maxGet) {
				g.end, g.first, g.bases = max(g.end, end), min(g.first, i), g.bases+base
				g.items = append(g.items, items[i])
				continue
			}
		}
		groups = append(groups, group{pack: l.Pack, off: off, end: end, bases: base, first: i, items: []item{items[i]}})
	}
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(a.first, b.first) })
	return groups
}
