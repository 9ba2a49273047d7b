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

// fetchBases reads the bases of a group's patches into buf, behind the group's own bytes. One that is damaged is noted with its item.
func (r *Reader) fetchBases(ctx context.Context, g *group, buf []byte) error {
	at := g.end - g.off
	for i := range g.items {
		it := &g.items[i]
		if !it.loc.Entry.IsPatch() {
			continue
		}
		b := &it.base
		it.baseAt = at
		at += int64(b.Entry.Stored)
		var err error
		if r.missing.has(b.Pack) {
			err = fmt.Errorf("read pack %s: %w", b.Pack, staging.ErrNotFound)
		} else {
			err = r.read(ctx, b.Pack, int64(b.Entry.Offset), buf[it.baseAt:at])
		}
		if err != nil && !isDamage(err) {
			return err
		}
		it.baseErr = err
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
	base, err := []byte(nil), it.baseErr
	if err == nil {
		base, err = o.OpenVerified(it.base.Pack, it.base.Entry, l.buf[it.baseAt:it.baseAt+int64(it.base.Entry.Stored)], m.base)
	}
	if err != nil {
		return nil, &baseError{id: e.Base, err: err}
	}
	m.base = base
	return o.OpenPatch(it.loc.Pack, e, stored, base, m.content)
}
