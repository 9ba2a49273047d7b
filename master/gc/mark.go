package gc

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging/format"
)

// markBatch is how many ids are looked up in one transaction.
const markBatch = 4096

// packMark says which entries of a pack are needed.
type packMark struct {
	bits  []uint64 // by ordinal
	bytes int64    // of entries that are marked, as stored
}

// marker finds every copy of every id that roots need. It holds one bit for each entry of a pack that is needed, and the ids of tree nodes that
// it has been at: 32 bytes and the map's own for each, one node for up to 64 chunks. For 1 TiB in chunks of 256 KiB
// that is some 5 MB.
type marker struct {
	g       *Collector
	project string
	nodes   map[chunker.ID]struct{}
	packs   map[uint64]*packMark
	lost    map[chunker.ID]struct{} // on the catalog's list of lost ids, and not met so far
	batch   []need
	ids     []chunker.ID // of batch

	reached int64 // ids looked up; some more than once
}

type need struct {
	id   chunker.ID
	kind format.Kind
}

// damage ends a mark: without that node or index row it can not be known what is needed.
type damage struct {
	restpoint *catalog.Restpoint
	disk      string
	cause     error
}

func (d *damage) Error() string {
	return fmt.Sprintf("disk %.64q of restpoint %s: %v", d.disk, d.restpoint.ID, d.cause)
}
func (d *damage) Unwrap() error { return d.cause }

// noCopyError: an id that a tree names has no row in the index at all.
type noCopyError struct{ id chunker.ID }

func (e *noCopyError) Error() string { return fmt.Sprintf("%s is not in the index", e.id) }

func newMarker(ctx context.Context, g *Collector, project string, packs map[uint64]*packMark) (*marker, error) {
	ids, err := g.cat.LostIDs(ctx, project)
	if err != nil {
		return nil, err
	}
	m := &marker{
		g: g, project: project, nodes: make(map[chunker.ID]struct{}), packs: packs, lost: make(map[chunker.ID]struct{}, len(ids)),
		batch: make([]need, 0, markBatch), ids: make([]chunker.ID, 0, markBatch),
	}
	for _, id := range ids {
		m.lost[id] = struct{}{}
	}
	return m, nil
}

// mark walks the trees of a project's restpoints. Each disk is compared with that of the restpoint before it, so that only what differs is
// looked up; what does not was marked with that one.
func (m *marker) mark(ctx context.Context, roots []catalog.Restpoint, done func()) error {
	slices.SortFunc(roots, func(a, b catalog.Restpoint) int {
		return cmp.Or(cmp.Compare(a.Machine, b.Machine), cmp.Compare(a.Sequence, b.Sequence))
	})
	var nodes format.NodeReader
	var before []format.Disk
	for i := range roots {
		p := &roots[i]
		if i == 0 || roots[i-1].Machine != p.Machine {
			var err error
			if nodes, err = m.g.cat.NodeReader(ctx, m.project, p.Machine); err != nil {
				return err
			}
			before = nil
		}
		for j := range p.Disks {
			d := &p.Disks[j]
			if err := m.tree(ctx, nodes, olderTree(before, d), d.Tree()); err != nil {
				if _, ok := catalog.DamageOf(err); ok || isNoCopy(err) {
					return &damage{restpoint: p, disk: d.ID, cause: err}
				}
				return err
			}
		}
		before = p.Disks
		done()
	}
	return nil
}

// olderTree is the tree of the same disk in the restpoint before, or an empty one.
func olderTree(before []format.Disk, d *format.Disk) format.Tree {
	for i := range before {
		if o := &before[i]; o.ID == d.ID && o.ChunkSize == d.ChunkSize {
			return o.Tree()
		}
	}
	return format.Tree{Chunks: d.Tree().Chunks}
}

func (m *marker) tree(ctx context.Context, nodes format.NodeReader, old, tree format.Tree) error {
	err := format.Diff(ctx, nodes, old, tree, &format.DiffOptions{
		Node: func(_ int, _ int64, id chunker.ID) (bool, error) {
			if _, seen := m.nodes[id]; seen {
				return false, nil
			}
			m.nodes[id] = struct{}{}
			return true, m.add(ctx, need{id: id, kind: format.KindNode})
		},
		Leaf: func(_ int64, _, id chunker.ID) error {
			if id.IsZero() {
				return nil
			}
			return m.add(ctx, need{id: id, kind: format.KindChunk})
		},
	})
	if err != nil {
		return err
	}
	return m.flush(ctx)
}

func (m *marker) add(ctx context.Context, n need) error {
	m.batch = append(m.batch, n)
	if len(m.batch) < markBatch {
		return nil
	}
	return m.flush(ctx)
}

// copies is what was found of one id.
type copies struct {
	good, bad []copyAt
	proven    bool // a good one is in a pack that was proven
}

type copyAt struct {
	pack    uint64 // seq
	entries int    // of the pack
	ordinal uint32
	stored  uint32
}

// flush marks all copies of the ids in the batch that can be read. Those that can not are marked as well until a proven one is there: they are all that
// there is to be rescued.
func (m *marker) flush(ctx context.Context) error {
	m.ids = m.ids[:0]
	for i := range m.batch {
		m.ids = append(m.ids, m.batch[i].id)
	}
	found := make([]copies, len(m.batch))
	err := m.g.cat.Places(ctx, m.project, m.ids, func(i int, p *catalog.Place) error {
		if p.Entry.Kind != m.batch[i].kind || p.Pack.State == catalog.PackTombstoned {
			return nil
		}
		f := &found[i]
		at := copyAt{pack: p.Pack.Seq, entries: p.Pack.Entries, ordinal: p.Entry.Ordinal, stored: p.Entry.Stored}
		if p.Damaged || p.Pack.State != catalog.PackLive {
			f.bad = append(f.bad, at)
			return nil
		}
		f.good = append(f.good, at)
		f.proven = f.proven || !p.Pack.Proven.IsZero()
		return nil
	})
	if err != nil {
		return err
	}
	for i := range found {
		f := &found[i]
		if len(f.good)+len(f.bad) == 0 {
			return &noCopyError{id: m.batch[i].id}
		}
		if !f.proven {
			f.good = append(f.good, f.bad...)
		}
		for _, at := range f.good {
			if err := m.set(at); err != nil {
				return err
			}
		}
		delete(m.lost, m.batch[i].id)
	}
	m.reached += int64(len(m.batch))
	m.batch = m.batch[:0]
	return nil
}

func (m *marker) set(at copyAt) error {
	if int64(at.ordinal) >= int64(at.entries) {
		return fmt.Errorf("mark pack %d: entry %d of %d", at.pack, at.ordinal, at.entries)
	}
	p := m.packs[at.pack]
	if p == nil {
		p = &packMark{bits: make([]uint64, (at.entries+63)/64)}
		m.packs[at.pack] = p
	}
	word, bit := &p.bits[at.ordinal/64], uint64(1)<<(at.ordinal%64)
	if *word&bit == 0 {
		*word |= bit
		p.bytes += int64(at.stored)
	}
	return nil
}
