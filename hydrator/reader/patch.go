package reader

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
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

// fetchBases reads what a group's patches stand on into buf, behind the group's own bytes. What is damaged is noted with the item.
func (r *Reader) fetchBases(ctx context.Context, g *group, buf []byte) error {
	at := g.end - g.off
	for i := range g.items {
		it := &g.items[i]
		it.baseAt = at
		if at += it.bases(); at > int64(len(buf)) {
			at, it.baseErr = it.baseAt, errLong
			continue
		}
		from := it.baseAt
		for j := range it.chain {
			b := &it.chain[j]
			n := int64(b.Entry.Stored)
			err := error(nil)
			if r.missing.has(b.Pack) {
				err = fmt.Errorf("read pack %s: %w", b.Pack, staging.ErrNotFound)
			} else {
				err = r.read(ctx, b.Pack, int64(b.Entry.Offset), buf[from:from+n])
			}
			if err != nil && !isDamage(err) {
				return err
			}
			if from += n; err != nil {
				it.baseErr = err
				break
			}
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
	end := it.baseAt + it.bases()
	for i := len(it.chain) - 1; i >= 0; i-- {
		b := &it.chain[i]
		stored := l.buf[end-int64(b.Entry.Stored) : end]
		end -= int64(b.Entry.Stored)
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
