package gc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging/format"
)

// unresolvedError: something in a restpoint's trees can not be read.
type unresolvedError struct {
	count int64 // at least
	first []string
	cause error // of the node that ended the walk; nil when the walk was whole
}

func (e *unresolvedError) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("its tree can not be read: %v", e.cause)
	}
	return fmt.Sprintf("%d chunks have no copy that can be read, such as %s", e.count, strings.Join(e.first, ", "))
}
func (e *unresolvedError) Unwrap() error { return e.cause }

// resolver checks that all of a machine's restpoints are there: it reads and verifies every node, and looks up every chunk. What was found whole once is not
// looked at again. It holds the ids of one machine's nodes.
type resolver struct {
	g       *Collector
	project string
	machine string
	nodes   format.NodeReader
	whole   map[chunker.ID]struct{} // nodes below which all is there
	before  []format.Disk           // of the last restpoint that was whole

	// Of the restpoint at hand:
	met     []chunker.ID // nodes
	batch   []chunk
	missing *unresolvedError
}

type chunk struct {
	id  chunker.ID
	raw int // bytes
}

func (g *Collector) newResolver(ctx context.Context, project, machine string) (*resolver, error) {
	nodes, err := g.cat.NodeReader(ctx, project, machine)
	if err != nil {
		return nil, err
	}
	return &resolver{g: g, project: project, machine: machine, nodes: nodes, whole: make(map[chunker.ID]struct{})}, nil
}

// restpoint returns an *unresolvedError when something is missing; other errors say nothing of the restpoint.
func (v *resolver) restpoint(ctx context.Context, disks []format.Disk) error {
	v.met, v.batch, v.missing = v.met[:0], v.batch[:0], &unresolvedError{}
	for i := range disks {
		if err := v.disk(ctx, &disks[i]); err != nil {
			v.forget()
			if _, ok := catalog.DamageOf(err); ok {
				return &unresolvedError{count: 1, cause: err}
			}
			return err
		}
	}
	if v.missing.count > 0 {
		v.forget()
		return v.missing
	}
	v.before = disks
	return nil
}

// forget takes back what a walk noted that was not whole.
func (v *resolver) forget() {
	for _, id := range v.met {
		delete(v.whole, id)
	}
}

func (v *resolver) disk(ctx context.Context, d *format.Disk) error {
	layout := d.Layout()
	err := format.Diff(ctx, v.nodes, olderTree(v.before, d), d.Tree(), &format.DiffOptions{
		Node: func(_ int, _ int64, id chunker.ID) (bool, error) {
			if _, seen := v.whole[id]; seen {
				return false, nil
			}
			v.whole[id] = struct{}{}
			v.met = append(v.met, id)
			return true, nil
		},
		Leaf: func(index int64, _, id chunker.ID) error {
			if id.IsZero() {
				return nil
			}
			_, n := layout.Extent(index)
			if v.batch = append(v.batch, chunk{id: id, raw: n}); len(v.batch) < markBatch {
				return nil
			}
			return v.flush(ctx)
		},
	})
	if err != nil {
		return err
	}
	return v.flush(ctx)
}

func (v *resolver) flush(ctx context.Context) error {
	found := make([]bool, len(v.batch))
	patches := make([][]chunker.ID, len(v.batch)) // bases of the patches that there are of it
	err := v.places(ctx, v.batch, func(i int, e *format.Entry) {
		if e.IsPatch() {
			patches[i] = append(patches[i], e.Base)
		} else {
			found[i] = true
		}
	})
	if err != nil {
		return err
	}
	if err := v.bases(ctx, found, patches); err != nil {
		return err
	}
	for i := range found {
		if found[i] {
			continue
		}
		if v.missing.count++; len(v.missing.first) < 3 {
			name := v.batch[i].id.String()
			if len(patches[i]) > 0 {
				name = fmt.Sprintf("%s, a patch of %s, which is not there in full", name, patches[i][0])
			}
			v.missing.first = append(v.missing.first, name)
		}
	}
	v.batch = v.batch[:0]
	return nil
}

// bases finds those that are there only as patches, by their bases.
func (v *resolver) bases(ctx context.Context, found []bool, patches [][]chunker.ID) error {
	var batch []chunk
	var of []int // place in found
	flush := func() error {
		err := v.places(ctx, batch, func(i int, e *format.Entry) {
			if !e.IsPatch() {
				found[of[i]] = true
			}
		})
		batch, of = batch[:0], of[:0]
		return err
	}
	for i := range patches {
		if found[i] {
			continue
		}
		for _, base := range patches[i] {
			if batch, of = append(batch, chunk{id: base, raw: v.batch[i].raw}), append(of, i); len(batch) < markBatch {
				continue
			}
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// places calls fn for each copy of each chunk that a reader of this machine may be sent to.
func (v *resolver) places(ctx context.Context, chunks []chunk, fn func(i int, e *format.Entry)) error {
	ids := make([]chunker.ID, len(chunks))
	for i := range chunks {
		ids[i] = chunks[i].id
	}
	return v.g.cat.Places(ctx, v.project, ids, func(i int, p *catalog.Place) error {
		if p.ReadableBy(v.machine) && p.Entry.Kind == format.KindChunk && int(p.Entry.Raw) == chunks[i].raw {
			fn(i, &p.Entry)
		}
		return nil
	})
}

func isUnresolved(err error) bool {
	var e *unresolvedError
	return errors.As(err, &e)
}
