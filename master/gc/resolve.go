package gc

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	why := make([]string, len(v.batch))
	open := make([]step, len(v.batch))
	for i := range v.batch {
		open[i] = step{chunk: v.batch[i], of: i, less: format.MaxDepth + 1}
	}
	// What is there as a patch is there if what it stands on is.
	for len(open) > 0 {
		var next []step
		for part := range slices.Chunk(open, markBatch) {
			err := v.places(ctx, part, func(s *step, e *format.Entry) {
				switch {
				case e.Depth >= s.less:
				case !e.IsPatch():
					found[s.of] = true
				default:
					next = append(next, step{chunk: chunk{id: e.Base, raw: s.raw}, of: s.of, less: e.Depth})
					why[s.of] = fmt.Sprintf(", a patch of %s, which is not there in full", e.Base)
				}
			})
			if err != nil {
				return err
			}
		}
		open = slices.DeleteFunc(next, func(s step) bool { return found[s.of] })
	}
	for i := range found {
		if found[i] {
			continue
		}
		if v.missing.count++; len(v.missing.first) < 3 {
			v.missing.first = append(v.missing.first, v.batch[i].id.String()+why[i])
		}
	}
	v.batch = v.batch[:0]
	return nil
}

// step is a chunk that must be there for one of a batch, stored with a depth that is less.
type step struct {
	chunk
	of   int // place in the batch
	less uint8
}

// places calls fn for each copy of each chunk that a reader of this machine may be sent to.
func (v *resolver) places(ctx context.Context, chunks []step, fn func(s *step, e *format.Entry)) error {
	ids := make([]chunker.ID, len(chunks))
	for i := range chunks {
		ids[i] = chunks[i].id
	}
	return v.g.cat.Places(ctx, v.project, ids, func(i int, p *catalog.Place) error {
		if p.ReadableBy(v.machine) && p.Entry.Kind == format.KindChunk && int(p.Entry.Raw) == chunks[i].raw {
			fn(&chunks[i], &p.Entry)
		}
		return nil
	})
}

func isUnresolved(err error) bool {
	var e *unresolvedError
	return errors.As(err, &e)
}
