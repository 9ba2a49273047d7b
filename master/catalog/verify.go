package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

const (
	checkBatch = 4096 // ids that are looked up in one transaction
	tellFirst  = 8    // ids that a refusal names
)

// wanted is an id that a manifest names and its parent does not have at that place.
type wanted struct {
	id   chunker.ID
	kind format.Kind
	raw  int // bytes that a chunk of that place has; 0: any
}

// checker walks what is new in a restpoint's trees, and looks each id up among what the session has pinned. It
// holds one batch of ids and the nodes of one path at a time.
type checker struct {
	c       *Catalog
	session *Session
	number  uint32 // of the project
	nodes   format.NodeReader
	batch   []wanted
}

// check returns CodeMissing when anything new in p's trees is not there, or is there only where this session may not look.
func (k *checker) check(ctx context.Context, p *format.Restpoint, parent *Restpoint) error {
	for i := range p.Disks {
		d := &p.Disks[i]
		layout := d.Layout()
		old := format.Tree{Chunks: layout.Chunks()}
		if parent != nil {
			if was := parent.disk(d.ID); was != nil && was.ChunkSize == d.ChunkSize {
				old = was.Tree()
			}
		}
		err := format.Diff(ctx, k.nodes, old, d.Tree(), &format.DiffOptions{
			Node: func(_ int, _ int64, id chunker.ID) (bool, error) {
				return true, k.add(ctx, wanted{id: id, kind: format.KindNode})
			},
			Leaf: func(index int64, _, id chunker.ID) error {
				if id.IsZero() {
					return nil
				}
				_, n := layout.Extent(index)
				return k.add(ctx, wanted{id: id, kind: format.KindChunk, raw: n})
			},
		})
		if err == nil {
			err = k.flush(ctx)
		}
		if err != nil {
			return k.explain(ctx, d, err)
		}
	}
	return nil
}

func (k *checker) add(ctx context.Context, w wanted) error {
	k.batch = append(k.batch, w)
	if len(k.batch) < checkBatch {
		return nil
	}
	return k.flush(ctx)
}

func (k *checker) flush(ctx context.Context) error {
	var missing []string
	n := 0
	err := k.c.db.View(ctx, func(r store.Reader) error {
		missing, n = nil, 0
		o := newSessionLookup(r, k.number, k.session)
		for i := range k.batch {
			ok, err := o.has(&k.batch[i])
			if err != nil {
				return err
			}
			if !ok {
				if n++; len(missing) < tellFirst {
					missing = append(missing, k.batch[i].id.String())
				}
			}
		}
		return nil
	})
	k.batch = k.batch[:0]
	if err != nil || n == 0 {
		return err
	}
	return missingProblem("at least %d ids that the manifest names are not in packs of this session: %s", n, strings.Join(missing, ", "))
}

func missingProblem(format string, args ...any) *wire.Problem {
	return wire.NewProblem(422, wire.CodeMissing, format, args...).
		WithNext("offer them, send what is not known, and commit again; if that does not help, open a session without a parent")
}

// has reports whether an id is in a live pack that the session has pinned, and if it is a patch what it stands on as well.
func (o *offer) has(w *wanted) (bool, error) {
	ok := false
	err := o.each(&w.id, func(x *indexRow, p *Pack) (bool, error) {
		if !p.usable(o.machine) || x.entry.Kind != w.kind || w.raw != 0 && int(x.entry.Raw) != w.raw {
			return false, nil
		}
		pinned, err := o.isPinned(p.Seq)
		if err != nil || !pinned {
			return false, err
		}
		_, ok, err = o.chain(&x.entry, o.hasPinned)
		return ok, err
	})
	return ok, err
}

// explain makes of an error of the walk what the agent should hear. A node that turned out to be damaged is marked, so that it is no longer
// known when it is offered again.
func (k *checker) explain(ctx context.Context, d *format.Disk, err error) error {
	var missing *missingError
	var damaged *damagedError
	switch {
	case errors.As(err, &missing):
		return missingProblem("node %s of disk %.64q is not in staging", missing.id, d.ID)
	case errors.As(err, &damaged):
		dmg := wire.Damage{Pack: damaged.pack.String(), ID: damaged.id.String(), Reason: damaged.cause.Error()}
		if qerr := k.c.Quarantine(ctx, k.session.Project, []wire.Damage{dmg}); qerr != nil {
			return fmt.Errorf("mark damaged node: %w", errors.Join(qerr, err))
		}
		return errors.Join(missingProblem("node %s of disk %.64q is damaged in staging", damaged.id, d.ID), err)
	case errors.Is(err, format.ErrCorrupt), errors.Is(err, format.ErrVersion):
		return badRequest("tree of disk %.64q: %v", d.ID, err)
	}
	var p *wire.Problem
	if errors.As(err, &p) || ctx.Err() != nil {
		return err
	}
	return stagingProblem(fmt.Sprintf("read the tree of disk %.64q", d.ID), err)
}
