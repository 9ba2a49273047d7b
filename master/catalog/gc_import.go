package catalog

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Imports put rows for what was found in the bucket. Each is idempotent and never changes what is there already.

// MasterKey is the public half of the key that countersigns restpoints.
func (c *Catalog) MasterKey() ed25519.PublicKey { return c.masterKey.Public().(ed25519.PublicKey) }

// CountersignAgain makes the object of a restpoint that an earlier master of this project countersigned. The link, and with it the chain, stays what it is.
func (c *Catalog) CountersignAgain(manifest []byte, link format.ChainLink) ([]byte, error) {
	return format.Countersign(c.masterKey, manifest, link)
}

// PackImport is a pack as its own footer describes it.
type PackImport struct {
	ID       format.PackID
	Size     int64 // bytes of object
	Modified time.Time
	Entries  []format.Entry
}

// Check returns CodeBadRequest for a pack that the index can not hold.
func (p *PackImport) Check() error {
	return checkEntries(&Pack{ID: p.ID, Size: p.Size}, p.Entries)
}

// ImportPacks adds those packs that are not known, in one transaction, and returns how many these were. They have no owner: a footer does not say who wrote
// it. Readers are sent to them, because readers check every id; offers find nothing in them until they are proven.
func (c *Catalog) ImportPacks(ctx context.Context, project string, packs []PackImport) (added int, err error) {
	err = c.db.Update(ctx, func(w store.Writer) error {
		added = 0
		prj, err := getProject(w, project)
		if err != nil {
			return err
		}
		epoch, err := getUint(w, tableMeta, metaEpoch)
		if err != nil {
			return err
		}
		for i := range packs {
			in := &packs[i]
			known, err := exists(w, tablePackIDs, in.ID[:])
			if err != nil {
				return err
			}
			if known {
				continue
			}
			seq, err := nextUint(w, metaPackSeq)
			if err != nil {
				return err
			}
			now := c.clock.Now()
			p := &Pack{
				ID: in.ID, Seq: seq, Project: project, Size: in.Size, State: PackLive, Entries: len(in.Entries),
				Contents: sha256.Sum256(format.MarshalEntries(in.Entries)),
				Epoch:    epoch, Committed: in.Modified, Changed: now,
				URLUntil: now.Add(c.opt.URLValid), // the master that signed for it may have done so a moment ago
			}
			if err := putUint(w, tablePackIDs, p.ID[:], seq); err != nil {
				return err
			}
			if err := putPack(w, p); err != nil {
				return err
			}
			if err := putIndex(w, prj.Number, seq, in.Entries); err != nil {
				return err
			}
			added++
		}
		return nil
	})
	return added, err
}

// ImportChain lets a machine's chain go on after head, the newest link of it in the bucket. CodeBusy while the machine has a live session, whose commit would
// take the same place in the chain.
func (c *Catalog) ImportChain(ctx context.Context, head format.ChainLink) error {
	return c.db.Update(ctx, func(w store.Writer) error {
		m, err := getMachine(w, head.Machine)
		if err != nil || head.Sequence <= m.Sequence {
			return err
		}
		live, err := liveSession(w, m.ID)
		if err != nil {
			return err
		}
		if live != nil {
			return busy("machine %s has a live session", m.Name).
				WithNext("pause it, wait until its session ends, and run again: openmigrate staging rebuild-index")
		}
		m.Sequence, m.LastLink = head.Sequence, format.LinkHash(head)
		return putMachine(w, &m)
	})
}

// ImportRestpoint lists a restpoint that is in the bucket, if it is not known. The caller has checked both signatures, that every id in its trees resolves, and
// has called ImportChain with a link that is not older.
func (c *Catalog) ImportRestpoint(ctx context.Context, p *format.Restpoint, link format.ChainLink, object []byte) (added bool, err error) {
	err = c.db.Update(ctx, func(w store.Writer) error {
		added = false
		known, err := exists(w, tableObjects, []byte(p.ID))
		if err != nil || known {
			return err
		}
		m, err := getMachine(w, p.Machine)
		if err != nil {
			return err
		}
		if link.Sequence > m.Sequence {
			return fmt.Errorf("import restpoint %s: its sequence is %d, the chain ends at %d", p.ID, link.Sequence, m.Sequence)
		}
		place := under(m.ID, u64(link.Sequence))
		if taken, err := exists(w, tableMachineRest, place); taken || err != nil {
			return errors.Join(err, conflict("machine %s has another restpoint %d", m.ID, link.Sequence))
		}
		row := listedRow(p, link, int64(len(object)))
		err = errors.Join(
			restpoints.put(w, []byte(row.ID), row),
			w.Put(tableObjects, []byte(row.ID), object),
			w.Put(tableMachineRest, place, []byte(row.ID)),
		)
		if err != nil {
			return err
		}
		newest, err := newestRestpoint(w, m.ID)
		if err != nil {
			return err
		}
		m.newest(newest)
		added = true
		return putMachine(w, &m)
	})
	return added, err
}

// ProveImported queues prove jobs for live packs without an owner that nobody has proven, and returns how many packs these are.
func (c *Catalog) ProveImported(ctx context.Context, project string) (packs int, err error) {
	var after uint64
	for {
		var batch []uint64
		last, err := c.Packs(ctx, after, 16*proveBatch, func(p Pack) error {
			if p.Machine == "" && p.Project == project && p.State == PackLive && p.Proven.IsZero() && !p.ProveJob {
				batch = append(batch, p.Seq)
			}
			return nil
		})
		if err != nil {
			return packs, err
		}
		for len(batch) > 0 {
			part := batch[:min(len(batch), proveBatch)]
			batch = batch[len(part):]
			n, err := c.proveImported(ctx, project, part)
			if err != nil {
				return packs, err
			}
			packs += n
		}
		if last == 0 {
			break
		}
		after = last
	}
	if packs > 0 {
		c.work.fire()
	}
	return packs, nil
}

func (c *Catalog) proveImported(ctx context.Context, project string, seqs []uint64) (queued int, err error) {
	err = c.db.Update(ctx, func(w store.Writer) error {
		j := Job{Kind: wire.JobProve, Project: project}
		for _, seq := range seqs {
			p, err := getPack(w, seq)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if p.State != PackLive || !p.Proven.IsZero() || p.ProveJob {
				continue
			}
			p.ProveJob = true
			if err := putPack(w, p); err != nil {
				return err
			}
			j.Packs = append(j.Packs, p.job())
		}
		if queued = len(j.Packs); queued == 0 {
			return nil
		}
		return c.queueJob(w, &j)
	})
	return queued, err
}
