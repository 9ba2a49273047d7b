package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// maxLost is how many lost ids are named in a session. With more, the session gets no parent: all is offered again.
const maxLost = 8192

// Quarantine takes stored copies that can not be used out of the index: one entry of a pack, or, where a Damage has no ID, the whole pack.
// Ids of which no good copy is left are lost: sessions that open from now on are told of them, so that an agent that
// still has the content sends it again. What is not known or not live any more is passed over.
func (c *Catalog) Quarantine(ctx context.Context, project string, damage []wire.Damage) error {
	if len(damage) > wire.MaxDamage {
		return badRequest("%d damages in one request, at most %d", len(damage), wire.MaxDamage)
	}
	return c.db.Update(ctx, func(w store.Writer) error {
		prj, err := getProject(w, project)
		if err != nil {
			return err
		}
		n, err := getUint(w, tableMeta, metaDamage)
		if err != nil {
			return err
		}
		if err := putUint(w, tableMeta, metaDamage, n+1); err != nil {
			return err
		}
		for i := range damage {
			if err := c.quarantine(w, &prj, &damage[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Catalog) quarantine(w store.Writer, project *Project, d *wire.Damage) error {
	id, err := format.ParsePackID(d.Pack)
	if err != nil {
		return badRequest("damage: %v", err)
	}
	p, err := packByID(w, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && (p.Project != project.ID || p.State != PackLive) {
		return nil
	}
	if err != nil {
		return err
	}
	var ids []chunker.ID
	if d.ID == "" {
		if ids, err = packContents(w, p.Seq); err != nil {
			return err
		}
		p.State, p.Changed = PackQuarantined, c.clock.Now()
		if err := putPack(w, p); err != nil {
			return err
		}
	} else {
		one, err := chunker.ParseID(d.ID)
		if err != nil {
			return badRequest("damage: %v", err)
		}
		key := indexKey(project.Number, &one, p.Seq)
		row, err := w.Get(tableIndex, key)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		row = append([]byte(nil), row...)
		row[2] |= flagDamaged
		if err := w.Put(tableIndex, key, row); err != nil {
			return err
		}
		ids = []chunker.ID{one}
	}
	l := newLookup(w, project.Number)
	var lost []chunker.ID
	for i := range ids {
		loc, err := l.locate(&ids[i], func(o *Pack) bool { return o.readable(p.Machine) })
		if err != nil {
			return err
		}
		if !loc.Found {
			lost = append(lost, ids[i])
		}
	}
	for i := range lost {
		if err := w.Put(tableLost, lostKey(project.Number, &lost[i]), nil); err != nil {
			return err
		}
	}
	count := len(lost)
	for i := 0; i < len(ids) && count <= maxLost; i++ {
		n, err := losePatches(w, l, &ids[i])
		if err != nil {
			return err
		}
		count += n
	}
	c.log.Error("stored data is damaged", "pack", d.Pack, "id", d.ID, "lost", count, "reason", cut(d.Reason))
	return c.tellDamage(w, p, count, d)
}

// tellDamage shows the operator what happened, at the machine that wrote the pack.
func (c *Catalog) tellDamage(w store.Writer, p *Pack, lost int, d *wire.Damage) error {
	m, err := getMachine(w, p.Machine)
	if wire.HasCode(err, wire.CodeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	now := c.clock.Now()
	m.addEvents(now, wire.Event{
		Time: now, Level: "error", Code: "staging-damaged",
		Message: fmt.Sprintf("pack %s is damaged, %d ids have no other copy: %s", p.ID, lost, cut(d.Reason)),
	})
	return putMachine(w, &m)
}

func lostKey(project uint32, id *chunker.ID) []byte { return indexPrefix(nil, project, id) }

// lostIDs returns up to maxLost+1 lost ids of a project.
func lostIDs(r store.Reader, project uint32) ([]string, error) {
	var lost []string
	prefix := indexPrefix(nil, project, &chunker.Zero)[:4]
	err := r.Scan(tableLost, prefix, nil, func(k, _ []byte) error {
		if len(k) != 4+chunker.IDSize {
			return fmt.Errorf("read lost ids: key of %d bytes", len(k))
		}
		lost = append(lost, chunker.ID(k[4:]).String())
		if len(lost) > maxLost {
			return store.ErrStop
		}
		return nil
	})
	return lost, err
}

func anyLost(r store.Reader, project uint32) (bool, error) {
	any := false
	err := r.Scan(tableLost, indexPrefix(nil, project, &chunker.Zero)[:4], nil, func(_, _ []byte) error {
		any = true
		return store.ErrStop
	})
	return any, err
}

// foundIn takes the ids of a pack that was proven off the list of lost ones, but for those that are damaged in it, too. Until a pack is
// proven the copy in it may be anything.
func foundIn(w store.Writer, project uint32, p *Pack, ids []chunker.ID) error {
	l := newLookup(w, project)
	for i := range ids {
		key := indexKey(project, &ids[i], p.Seq)
		v, err := w.Get(tableIndex, key)
		if err != nil {
			return fmt.Errorf("read index row of %s: %w", ids[i], err)
		}
		x, err := decodeIndexRow(key, v)
		if err != nil {
			return err
		}
		if x.damaged {
			continue
		}
		if ok, err := l.complete(&x.entry, (*Pack).isProven); err != nil || !ok {
			if err != nil {
				return err
			}
			continue // what it stands on has yet to be proven
		}
		if err := w.Delete(tableLost, lostKey(project, &ids[i])); err != nil {
			return err
		}
		if err := findPatches(w, l, &ids[i]); err != nil {
			return err
		}
	}
	return nil
}
