package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Collection is what a garbage collector must keep, as of the moment that it began. To it belong all ids in the trees of
// Roots and all packs in Pinned. What was announced or pinned since is not in it; Tombstone leaves that alone by the epoch.
type Collection struct {
	Epoch  uint64
	Roots  []Restpoint
	Pinned map[uint64]bool // packs of live sessions by Pack.Seq
}

// BeginCollection opens a new epoch and takes stock, in one transaction. What begins after it carries the new epoch.
func (c *Catalog) BeginCollection(ctx context.Context) (*Collection, error) {
	var col *Collection
	err := c.db.Update(ctx, func(w store.Writer) error {
		col = &Collection{Pinned: make(map[uint64]bool)}
		var err error
		if col.Epoch, err = nextUint(w, metaEpoch); err != nil {
			return err
		}
		// Those that are being removed count as well: a session or a job may hold them.
		err = restpoints.scan(w, nil, nil, func(_ []byte, p Restpoint) error {
			col.Roots = append(col.Roots, p)
			return nil
		})
		if err != nil {
			return err
		}
		return w.Scan(tableLive, nil, nil, func(_, id []byte) error {
			s, err := sessions.get(w, id)
			if err != nil {
				return err
			}
			if s.Decided != nil {
				col.Roots = append(col.Roots, s.Decided.Restpoint)
			}
			return w.Scan(tablePins, under(s.ID, nil), nil, func(k, _ []byte) error {
				col.Pinned[binary.BigEndian.Uint64(k[len(k)-8:])] = true
				return nil
			})
		})
	})
	return col, err
}

// Tombstone puts a tombstone on each of packs that may still go: none that col has pinned, that was announced or pinned since col began, or that has
// one already. The caller has found that nothing in col.Roots needs them. It returns those that it marked.
func (c *Catalog) Tombstone(ctx context.Context, col *Collection, packs []uint64) ([]Pack, error) {
	var done []Pack
	err := c.db.Update(ctx, func(w store.Writer) error {
		done = nil
		for _, seq := range packs {
			p, err := getPack(w, seq)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if p.State == PackTombstoned || p.Epoch >= col.Epoch || col.Pinned[seq] {
				continue
			}
			p.State, p.Changed = PackTombstoned, c.clock.Now()
			if err := putPack(w, p); err != nil {
				return err
			}
			done = append(done, *p)
		}
		return nil
	})
	return done, err
}

// Packs calls fn for each pack with a Seq above after, in ascending order, at most limit of them: one transaction. It returns the last Seq,
// 0 when there were none.
func (c *Catalog) Packs(ctx context.Context, after uint64, limit int, fn func(Pack) error) (last uint64, err error) {
	err = c.db.View(ctx, func(r store.Reader) error {
		n := 0
		return r.Scan(tablePacks, nil, u64(after+1), func(k, v []byte) error {
			if n++; n > limit {
				return store.ErrStop
			}
			if len(k) != 8 {
				return fmt.Errorf("read packs: key of %d bytes", len(k))
			}
			p, err := decodePack(binary.BigEndian.Uint64(k), v)
			if err != nil {
				return err
			}
			last = p.Seq
			return fn(*p)
		})
	})
	return last, err
}

// Pack returns what is known of a pack; CodeNotFound.
func (c *Catalog) Pack(ctx context.Context, id format.PackID) (Pack, error) {
	var p Pack
	err := c.db.View(ctx, func(r store.Reader) error {
		q, err := packByID(r, id)
		if errors.Is(err, store.ErrNotFound) {
			return notFound("there is no pack %s", id)
		}
		if err == nil {
			p = *q
		}
		return err
	})
	return p, err
}

// PackContents returns the ids of a pack's entries, in the order in which they are stored.
func (c *Catalog) PackContents(ctx context.Context, seq uint64) ([]chunker.ID, error) {
	var ids []chunker.ID
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		ids, err = packContents(r, seq)
		return err
	})
	return ids, err
}

// forgetBatch is how many index rows go in one transaction.
const forgetBatch = 8192

// ForgetPack deletes all rows of a pack that has a tombstone. The caller has deleted its object, and waited with that until
// Pack.URLUntil had passed: before, an agent might have put it again. It is idempotent.
func (c *Catalog) ForgetPack(ctx context.Context, seq uint64) error {
	var p *Pack
	var number uint32
	var ids []chunker.ID
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		if p, err = getPack(r, seq); errors.Is(err, store.ErrNotFound) {
			p = nil
			return nil
		}
		if err != nil {
			return err
		}
		project, err := getProject(r, p.Project)
		if err != nil {
			return err
		}
		number = project.Number
		if ids, err = packContents(r, seq); errors.Is(err, store.ErrNotFound) {
			return nil // announced, never committed
		}
		return err
	})
	if err != nil || p == nil {
		return err
	}
	if p.State != PackTombstoned {
		return conflict("pack %s is %s", p.ID, p.State)
	}
	for len(ids) > 0 {
		part := ids[:min(len(ids), forgetBatch)]
		err := c.db.Update(ctx, func(w store.Writer) error {
			for i := range part {
				if err := forgetEntry(w, number, &part[i], seq); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("forget pack %s: %w", p.ID, err)
		}
		ids = ids[len(part):]
	}
	return c.db.Update(ctx, func(w store.Writer) error {
		return errors.Join(w.Delete(tablePackContents, u64(seq)), w.Delete(tablePackIDs, p.ID[:]), w.Delete(tablePacks, u64(seq)))
	})
}

// forgetEntry deletes the rows of one entry; those that are gone already do not matter.
func forgetEntry(w store.Writer, project uint32, id *chunker.ID, pack uint64) error {
	key := indexKey(project, id, pack)
	v, err := w.Get(tableIndex, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	x, err := decodeIndexRow(key, v)
	if err != nil {
		return err
	}
	if x.entry.IsPatch() {
		if err := w.Delete(tablePatches, patchKey(project, &x.entry.Base, id, pack)); err != nil {
			return err
		}
	}
	return w.Delete(tableIndex, key)
}
