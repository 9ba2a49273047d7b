package reader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// baseError: a patch could not be opened because of its base. What is wrong with that was reported where it is stored, and says nothing
// of the patch.
type baseError struct {
	id  chunker.ID
	err error
}

func (e *baseError) Error() string { return fmt.Sprintf("base %s: %v", e.id, e.err) }
func (e *baseError) Unwrap() error { return e.err }

func isBase(err error) bool {
	var e *baseError
	return errors.As(err, &e)
}

// errLong: what a patch stands on does not fit into the buffer. It is read step by step.
var errLong = fmt.Errorf("%w: patches of patches that are longer than any that are made", format.ErrCorrupt)

// link is one step of what an item stands on.
type link struct {
	it   *item
	step int // in it.chain
}

func (l link) loc() *wire.Location { return &l.it.chain[l.step] }

func (l link) bounds() (off, end int64) {
	e := &l.loc().Entry
	return int64(e.Offset), int64(e.Offset) + int64(e.Stored)
}

// stretch is neighbouring links that one GET brings.
type stretch struct {
	links    []link
	off, end int64 // of the object
}

// stretches joins links that lie within gap of each other. Neighbouring chunks that were patched in one cycle lie in one pack, in order.
func stretches(links []link, gap int64) (all []stretch, size int64) {
	for i, l := range links {
		off, end := l.bounds()
		if n := len(all) - 1; n >= 0 && links[i-1].loc().Pack == l.loc().Pack && off-all[n].end <= gap {
			x := &all[n]
			size += max(end, x.end) - x.end
			x.links, x.end = links[i-len(x.links):i+1], max(end, x.end)
			continue
		}
		all = append(all, stretch{links[i : i+1], off, end})
		size += end - off
	}
	return all, size
}

// fetchBases reads what a group's patches stand on into buf, behind the group's own bytes. What is damaged is noted with the items.
func (r *Reader) fetchBases(ctx context.Context, g *group, buf []byte) error {
	var links []link
	for i := range g.items {
		it := &g.items[i]
		it.chainAt = make([]int64, len(it.chain))
		for step := range it.chain {
			links = append(links, link{it, step})
		}
	}
	slices.SortFunc(links, func(a, b link) int {
		x, y := a.loc(), b.loc()
		return cmp.Or(slices.Compare(x.Pack[:], y.Pack[:]), cmp.Compare(x.Entry.Offset, y.Entry.Offset))
	})
	at := g.end - g.off
	all, size := stretches(links, int64(r.opts.MaxGap))
	if at+size > int64(len(buf)) {
		all, _ = stretches(links, 0)
	}
	for _, x := range all {
		err := errLong
		if n := x.end - x.off; at+n <= int64(len(buf)) {
			pack := x.links[0].loc().Pack
			if r.missing.has(pack) {
				err = fmt.Errorf("read pack %s: %w", pack, staging.ErrNotFound)
			} else if err = r.read(ctx, pack, x.off, buf[at:at+n]); err != nil && !isDamage(err) {
				return err
			}
		}
		for _, l := range x.links {
			if err != nil {
				l.it.baseErr = err
				continue
			}
			off, _ := l.bounds()
			l.it.chainAt[l.step] = at + off - x.off
		}
		if err == nil {
			at += x.end - x.off
		}
	}
	return nil
}

// open opens an item of a group that was fetched, in m's memory.
func (l *load) open(o *format.Opener, it *item, m *scratch) ([]byte, error) {
	e := it.loc.Entry
	at := int64(e.Offset) - l.group.off
	stored := l.buf[at : at+int64(e.Stored)]
	if !e.IsPatch() {
		return o.OpenVerified(it.loc.Pack, e, stored, m.content)
	}
	base, err := l.base(o, it, m)
	if err != nil {
		return nil, &baseError{id: e.Base, err: err}
	}
	return o.OpenPatch(it.loc.Pack, e, stored, base, m.content)
}

// base opens what a patch stands on, from the bottom up. Its id is not checked: if it were another content, that of the patch would be.
func (l *load) base(o *format.Opener, it *item, m *scratch) (base []byte, err error) {
	if it.baseErr != nil {
		return nil, it.baseErr
	}
	for i := len(it.chain) - 1; i >= 0; i-- {
		b := &it.chain[i]
		stored := l.buf[it.chainAt[i] : it.chainAt[i]+int64(b.Entry.Stored)]
		if !b.Entry.IsPatch() {
			base, err = o.Open(b.Pack, b.Entry, stored, m.base)
		} else {
			base, err = o.ApplyPatch(b.Pack, b.Entry, stored, base, m.base)
		}
		if err != nil {
			return nil, err
		}
		m.base, m.spare = m.spare, base
	}
	return base, nil
}
