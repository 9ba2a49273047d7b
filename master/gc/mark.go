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
	raw  uint32 // bytes; only of bases
	less uint8  // the depth is; only of bases
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
	all       []copyAt
	settled   bool // of all was made:
	good, bad []copyAt
	proven    bool // a good one is in a pack that was proven
	kept      bool // they are marked
}

type copyAt struct {
	pack    uint64 // seq
	entries int    // of the pack
	ordinal uint32
	stored  uint32
	proven  bool
	usable  bool // by itself
	base    int  // of a patch: its place among the bases of the batch, from 1
}

// baseSet is the copies of what patches in a batch stand on.
type baseSet struct {
	place map[need]int // from 1
	needs []need
	found []copies
}

// copyOf describes a copy. What it stands on is needed, too.
func (b *baseSet) copyOf(p *catalog.Place) copyAt {
	at := copyAt{
		pack: p.Pack.Seq, entries: p.Pack.Entries, ordinal: p.Entry.Ordinal, stored: p.Entry.Stored, proven: !p.Pack.Proven.IsZero(),
		usable: !p.Damaged && p.Pack.State == catalog.PackLive,
	}
	if !p.Entry.IsPatch() {
		return at
	}
	n := need{id: p.Entry.Base, raw: p.Entry.Raw, less: p.Entry.Depth}
	if at.base = b.place[n]; at.base == 0 {
		b.needs, b.found = append(b.needs, n), append(b.found, copies{})
		at.base = len(b.needs)
		if b.place == nil {
			b.place = make(map[need]int)
		}
		b.place[n] = at.base
	}
	return at
}

// look finds the copies of all that is needed, level by level: those of less depth than what stands on them.
func (b *baseSet) look(ctx context.Context, m *marker) error {
	ids := make([]chunker.ID, 0, min(markBatch, len(b.needs)))
	for start := 0; start < len(b.needs); start += len(ids) {
		part := b.needs[start:min(len(b.needs), start+markBatch)]
		ids = ids[:0]
		for i := range part {
			ids = append(ids, part[i].id)
		}
		err := m.g.cat.Places(ctx, m.project, ids, func(i int, p *catalog.Place) error {
			e := &p.Entry
			if e.Kind != format.KindChunk || e.Depth >= part[i].less || e.Raw != part[i].raw || p.Pack.State == catalog.PackTombstoned {
				return nil
			}
			at := b.copyOf(p) // may move b.found
			b.found[start+i].all = append(b.found[start+i].all, at)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle tells the copies that can be read from those that can not, which a patch can not be without what it stands on.
func (b *baseSet) settle(f *copies) {
	if f.settled {
		return
	}
	f.settled = true
	for _, at := range f.all {
		if at.base > 0 {
			on := &b.found[at.base-1]
			b.settle(on)
			at.usable = at.usable && len(on.good) > 0
			at.proven = at.proven && on.proven
		}
		if !at.usable {
			f.bad = append(f.bad, at)
			continue
		}
		f.good = append(f.good, at)
		f.proven = f.proven || at.proven
	}
}

// keep marks the copies that can be read, and until a proven one is among them also those that can not: they are all that there is to be
// rescued. With each goes what it stands on, although no tree may name that any more.
func (m *marker) keep(f *copies, b *baseSet) error {
	if f.kept {
		return nil
	}
	f.kept = true
	for _, some := range [][]copyAt{f.good, f.bad} {
		for _, at := range some {
			if err := m.set(at); err != nil {
				return err
			}
			if at.base == 0 {
				continue
			}
			if err := m.keep(&b.found[at.base-1], b); err != nil {
				return err
			}
		}
		if f.proven {
			break
		}
	}
	return nil
}

// flush marks what is to be kept of the ids in the batch.
func (m *marker) flush(ctx context.Context) error {
	m.ids = m.ids[:0]
	for i := range m.batch {
		m.ids = append(m.ids, m.batch[i].id)
	}
	found := make([]copies, len(m.batch))
	var bases baseSet
	err := m.g.cat.Places(ctx, m.project, m.ids, func(i int, p *catalog.Place) error {
		if p.Entry.Kind == m.batch[i].kind && p.Pack.State != catalog.PackTombstoned {
			found[i].all = append(found[i].all, bases.copyOf(p))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := bases.look(ctx, m); err != nil {
		return err
	}
	for i := range found {
		f := &found[i]
		if len(f.all) == 0 {
			return &noCopyError{id: m.batch[i].id}
		}
		bases.settle(f)
		if err := m.keep(f, &bases); err != nil {
			return err
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
