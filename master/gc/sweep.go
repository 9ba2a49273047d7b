package gc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

const restpointPrefix = "restpoints/"

// Of a restpoint in the bucket that the catalog does not know.
const (
	strangerMessage = "the bucket holds a restpoint that the database does not know; nothing is collected until it does"
	strangerAdvice  = "openmigrate staging rebuild-index adds it; or delete the object"
)

// strangers aborts the collection when the bucket holds a restpoint that the catalog does not know: after a database was restored from
// a backup, or a rebuild could not list all. What only such a restpoint needs looks like garbage.
func (c *collection) strangers(ctx context.Context) error {
	known := make(map[string]bool, len(c.stock.Roots))
	for i := range c.stock.Roots {
		p := &c.stock.Roots[i]
		known[format.RestpointName(p.Machine, p.ID)] = true
	}
	return c.g.bucket.List(ctx, restpointPrefix, "", func(o staging.Info) error {
		_, id, ok := parseRestpointName(o.Name)
		if known[o.Name] || !ok {
			return nil // what has another form was never ours
		}
		stranger, err := c.g.isStranger(ctx, o.Name, id)
		if err != nil || !stranger {
			return err
		}
		c.report.Aborted = true
		c.report.add(o.Name, strangerAdvice, strangerMessage)
		return nil
	})
}

// isStranger looks twice, because restpoints come and go meanwhile: their rows are there before their objects, and after them.
func (g *Collector) isStranger(ctx context.Context, name, id string) (bool, error) {
	_, err := g.cat.RestpointObject(ctx, id)
	if !wire.HasCode(err, wire.CodeNotFound) {
		return false, err
	}
	_, there, err := g.stat(ctx, name)
	return there, err
}

func parseRestpointName(name string) (machine, id string, ok bool) {
	rest, ok := strings.CutPrefix(name, restpointPrefix)
	if !ok {
		return "", "", false
	}
	machine, id, ok = strings.Cut(rest, "/")
	return machine, id, ok && format.CheckID(machine) == nil && format.CheckID(id) == nil
}

// uploadSlack is how long a PUT may go on that was begun while its URL was good.
const uploadSlack = 15 * time.Minute

// tombBatch is how many packs get their tombstones in one transaction.
const tombBatch = 512

// entomb puts tombstones on packs that nothing needs. The catalog looks again at each, in the same transaction.
func (c *collection) entomb(ctx context.Context) error {
	r := c.report
	var batch []uint64
	flush := func() error {
		done, err := c.g.cat.Tombstone(ctx, c.stock, batch)
		kept := int64(len(batch) - len(done))
		r.PacksKept, r.PacksPinned = r.PacksKept+kept, r.PacksPinned+kept
		batch = batch[:0]
		return err
	}
	err := c.g.eachPack(ctx, func(p *catalog.Pack) error {
		m := c.packs[p.Seq]
		switch {
		case p.State == catalog.PackTombstoned:
			return nil // of an earlier run
		case m != nil:
			r.PacksKept++
			r.BytesLive += m.bytes
			r.BytesDead += max(0, p.Size-m.bytes)
			if p.State == catalog.PackQuarantined {
				r.PacksQuarantined++
			}
			return nil
		}
		unfinished, err := c.unfinished(ctx, p)
		if err != nil {
			return err
		}
		if unfinished {
			r.PacksKept++
			r.PacksUnfinished++
			return nil
		}
		if batch = append(batch, p.Seq); len(batch) < tombBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// sweep deletes the objects of all packs with a tombstone, of this run or an earlier one, and then their rows. The row of a pack for which a signed URL may still be good stays:
// an agent could put the object again, and then a later run must know to delete it.
func (c *collection) sweep(ctx context.Context) error {
	r := c.report
	return c.g.eachPack(ctx, func(p *catalog.Pack) error {
		if p.State != catalog.PackTombstoned {
			return nil
		}
		name := p.ID.Name()
		size, there, err := c.g.stat(ctx, name)
		if err != nil {
			return fmt.Errorf("look for %s: %w", name, err)
		}
		if there {
			if err := c.g.bucket.Delete(ctx, name); err != nil {
				return fmt.Errorf("delete %s: %w", name, err)
			}
			r.BytesFreed += size
		}
		if !c.g.clock.Now().After(p.URLUntil.Add(uploadSlack)) {
			r.PacksWaiting++
			return nil
		}
		if err := c.g.cat.ForgetPack(ctx, p.Seq); err != nil {
			return err
		}
		r.PacksDeleted++
		c.opt.Progress.tell("sweep", r.PacksDeleted, 0)
		return nil
	})
}
