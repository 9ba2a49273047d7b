package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Place is one copy of an id.
type Place struct {
	Pack    *Pack // in any state; good until the callback returns
	Entry   format.Entry
	Damaged bool // the copy was reported as unreadable
}

// ReadableBy reports whether a reader of machine's restpoints is sent to this copy.
func (p *Place) ReadableBy(machine string) bool { return !p.Damaged && p.Pack.readable(machine) }

// Places calls fn for every copy of every one of ids, whatever state it is in, in one transaction. Unlike Resolve it also shows copies that nobody may
// use: a collector must know of them.
func (c *Catalog) Places(ctx context.Context, project string, ids []chunker.ID, fn func(i int, p *Place) error) error {
	return c.db.View(ctx, func(r store.Reader) error {
		prj, err := getProject(r, project)
		if err != nil {
			return err
		}
		packs := newPackCache(r)
		key := make([]byte, 0, indexKeySize)
		for i := range ids {
			key = indexPrefix(key, prj.Number, &ids[i])
			err := r.Scan(tableIndex, key, nil, func(k, v []byte) error {
				x, err := decodeIndexRow(k, v)
				if err != nil {
					return err
				}
				p, err := packs.get(x.pack)
				if err != nil {
					return err
				}
				return fn(i, &Place{Pack: p, Entry: x.entry, Damaged: x.damaged})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// PacksByID calls fn for packs in ascending order of their ids, which is the order of their objects in the bucket: those after the id given, at most
// limit, in one transaction. A nil after is the beginning.
func (c *Catalog) PacksByID(ctx context.Context, after *format.PackID, limit int, fn func(Pack) error) error {
	var from []byte
	if after != nil {
		from = append(after[:], 0) // the first key that is longer than after
	}
	return c.db.View(ctx, func(r store.Reader) error {
		n := 0
		return r.Scan(tablePackIDs, nil, from, func(k, v []byte) error {
			if n++; n > limit {
				return store.ErrStop
			}
			if len(v) != 8 {
				return fmt.Errorf("read pack ids: value of %d bytes", len(v))
			}
			p, err := getPack(r, binary.BigEndian.Uint64(v))
			if err != nil {
				return err
			}
			return fn(*p)
		})
	})
}

// AllRestpoints returns those of all machines that are listed or damaged.
func (c *Catalog) AllRestpoints(ctx context.Context) ([]Restpoint, error) {
	var all []Restpoint
	err := c.db.View(ctx, func(r store.Reader) error {
		all = nil
		return restpoints.scan(r, nil, nil, func(_ []byte, p Restpoint) error {
			if p.State != RestpointRemoving {
				all = append(all, p)
			}
			return nil
		})
	})
	return all, err
}

// EachEntry calls fn for index rows of a project in order of ids, from a cursor on: at most limit in one transaction. It returns the cursor to go
// on from, nil at the end.
func (c *Catalog) EachEntry(ctx context.Context, project string, cursor []byte, limit int, fn func(p *Place)) (next []byte, err error) {
	err = c.db.View(ctx, func(r store.Reader) error {
		next = nil
		prj, err := getProject(r, project)
		if err != nil {
			return err
		}
		packs := newPackCache(r)
		prefix := indexPrefix(nil, prj.Number, &chunker.Zero)[:4]
		n := 0
		return r.Scan(tableIndex, prefix, cursor, func(k, v []byte) error {
			if n++; n > limit {
				next = append([]byte(nil), k...)
				return store.ErrStop
			}
			x, err := decodeIndexRow(k, v)
			if err != nil {
				return err
			}
			p, err := packs.get(x.pack)
			if err != nil {
				return err
			}
			fn(&Place{Pack: p, Entry: x.entry, Damaged: x.damaged})
			return nil
		})
	})
	return next, err
}

// DamageOf says what a NodeReader found missing or unreadable: the Damage has no Pack when the index knows no copy that may be read. It reports false
// for errors that may pass, such as those of the network.
func DamageOf(err error) (wire.Damage, bool) {
	var missing *missingError
	var damaged *damagedError
	switch {
	case errors.As(err, &damaged):
		return wire.Damage{Pack: damaged.pack.String(), ID: damaged.id.String(), Reason: damaged.cause.Error()}, true
	case errors.As(err, &missing):
		return wire.Damage{ID: missing.id.String(), Reason: "no copy of it can be read"}, true
	case errors.Is(err, format.ErrCorrupt), errors.Is(err, format.ErrVersion):
		return wire.Damage{Reason: err.Error()}, true
	}
	return wire.Damage{}, false
}
