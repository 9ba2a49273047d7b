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
	proven  bool
	base    int // of a patch: its place among the bases of the batch, from 1
}

func copyOf(p *catalog.Place) copyAt {
	return copyAt{
		pack: p.Pack.Seq, entries: p.Pack.Entries, ordinal: p.Entry.Ordinal, stored: p.Entry.Stored, proven: !p.Pack.Proven.IsZero(),
	}
}

func (f *copies) add(at copyAt, usable bool) {
	if !usable {
		f.bad = append(f.bad, at)
		return
	}
	f.good = append(f.good, at)
	f.proven = f.proven || at.proven
}

// kept is the copies that can be read, and until a proven one is among them also those that can not.
func (f *copies) kept() []copyAt {
	if f.proven {
		return f.good
	}
	return append(f.good, f.bad...)
}

// baseSet is the full copies of the chunks that patches in a batch are made of.
type baseSet struct {
	place map[need]int // from 1
	needs []need
	found []copies
}

// of notes that a patch needs its base.
func (b *baseSet) of(e *format.Entry) int {
	n := need{id: e.Base, raw: e.Raw}
	i, ok := b.place[n]
	if !ok {
		b.needs = append(b.needs, n)
		i = len(b.needs)
		if b.place == nil {
			b.place = make(map[need]int)
		}
		b.place[n] = i
	}
	return i
}

// look finds them. A base that is stored only as a patch itself does not count.
func (b *baseSet) look(ctx context.Context, m *marker) error {
	b.found = make([]copies, len(b.needs))
	for start := 0; start < len(b.needs); start += markBatch {
		part := b.needs[start:min(len(b.needs), start+markBatch)]
		ids := make([]chunker.ID, len(part))
		for i := range part {
			ids[i] = part[i].id
		}
		err := m.g.cat.Places(ctx, m.project, ids, func(i int, p *catalog.Place) error {
			e := &p.Entry
			if e.Kind != format.KindChunk || e.IsPatch() || e.Raw != part[i].raw || p.Pack.State == catalog.PackTombstoned {
				return nil
			}
			b.found[start+i].add(copyOf(p), !p.Damaged && p.Pack.State == catalog.PackLive)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// flush marks all copies of the ids in the batch that can be read, and with each that is a patch the full copies of its base, although no tree may name that any more. Those
// that can not be read are marked as well until a proven one is there: they are all that there is to be rescued. A patch without
// its base is one of them.
func (m *marker) flush(ctx context.Context) error {
	m.ids = m.ids[:0]
	for i := range m.batch {
		m.ids = append(m.ids, m.batch[i].id)
	}
	found := make([]copies, len(m.batch))
	patches := make([]copies, len(m.batch))
	var bases baseSet
	err := m.g.cat.Places(ctx, m.project, m.ids, func(i int, p *catalog.Place) error {
		if p.Entry.Kind != m.batch[i].kind || p.Pack.State == catalog.PackTombstoned {
			return nil
		}
		at, usable := copyOf(p), !p.Damaged && p.Pack.State == catalog.PackLive
		if !p.Entry.IsPatch() {
			found[i].add(at, usable)
			return nil
		}
		at.base = bases.of(&p.Entry)
		patches[i].add(at, usable)
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
		for _, at := range patches[i].good {
			b := &bases.found[at.base-1]
			at.proven = at.proven && b.proven
			f.add(at, len(b.good) > 0)
		}
		f.bad = append(f.bad, patches[i].bad...)
		if len(f.good)+len(f.bad) == 0 {
			return &noCopyError{id: m.batch[i].id}
		}
		for _, at := range f.kept() {
			if err := m.set(at); err != nil {
				return err
			}
			if at.base == 0 {
				continue
			}
			for _, at := range bases.found[at.base-1].kept() {
				if err := m.set(at); err != nil {
					return err
				}
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
