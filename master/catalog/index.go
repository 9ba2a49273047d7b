package catalog

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
)

// The chunk index has one row for each entry of each pack:
//
//	key:   project number u32, id [32], pack seq u64
//	value: kind u8, codec u8, flags u8, depth of a patch's base u8, ordinal u32, offset u32, stored u32, raw u32, and of a patch its base [32]
//
// big-endian. One id may be in several packs.
const (
	indexKeySize = 4 + chunker.IDSize + 8
	indexRowSize = 20

	flagDamaged = 1 // the entry can not be read; never offered or resolved again
)

// indexPrefix is the start of the keys of all rows of an id.
func indexPrefix(dst []byte, project uint32, id *chunker.ID) []byte {
	dst = binary.BigEndian.AppendUint32(dst[:0], project)
	return append(dst, id[:]...)
}

func indexKey(project uint32, id *chunker.ID, pack uint64) []byte {
	return binary.BigEndian.AppendUint64(indexPrefix(make([]byte, 0, indexKeySize), project, id), pack)
}

// indexRow is one place where an id is stored.
type indexRow struct {
	pack    uint64 // seq
	damaged bool
	entry   format.Entry
}

func (x *indexRow) append(dst []byte) []byte {
	flags := byte(0)
	if x.damaged {
		flags |= flagDamaged
	}
	dst = append(dst, byte(x.entry.Kind), byte(x.entry.Codec), flags, x.entry.BaseDepth())
	for _, v := range []uint32{x.entry.Ordinal, x.entry.Offset, x.entry.Stored, x.entry.Raw} {
		dst = binary.BigEndian.AppendUint32(dst, v)
	}
	if x.entry.IsPatch() {
		dst = append(dst, x.entry.Base[:]...)
	}
	return dst
}

func decodeIndexRow(key, value []byte) (indexRow, error) {
	want := indexRowSize
	if len(value) > 1 && chunker.Codec(value[1]) == chunker.Patch {
		want += chunker.IDSize
	}
	if len(key) != indexKeySize || len(value) != want {
		return indexRow{}, fmt.Errorf("read index row: key of %d and value of %d bytes", len(key), len(value))
	}
	x := indexRow{
		pack:    binary.BigEndian.Uint64(key[4+chunker.IDSize:]),
		damaged: value[2]&flagDamaged != 0,
		entry: format.Entry{
			Kind: format.Kind(value[0]), Codec: chunker.Codec(value[1]),
			Ordinal: binary.BigEndian.Uint32(value[4:]), Offset: binary.BigEndian.Uint32(value[8:]),
			Stored: binary.BigEndian.Uint32(value[12:]), Raw: binary.BigEndian.Uint32(value[16:]),
		},
	}
	copy(x.entry.ID[:], key[4:])
	copy(x.entry.Base[:], value[indexRowSize:])
	if !x.entry.SetBaseDepth(value[3]) {
		return indexRow{}, fmt.Errorf("read index row: depth %d with codec %d", value[3], value[1])
	}
	return x, nil
}

// lookup finds places of ids in one transaction. It belongs to one goroutine.
type lookup struct {
	r       store.Reader
	project uint32
	packs   *packCache
	key     []byte
	row     indexRow
	fn      func(x *indexRow, p *Pack) (done bool, err error)
	visit   func(k, v []byte) error // l.one, made once: an offer calls it thousands of times
	bases   *lookup                 // for chain; nil until then
	steps   int                     // of chain, so far
}

func newLookup(r store.Reader, project uint32) *lookup {
	return newLookupIn(r, project, newPackCache(r))
}

func newLookupIn(r store.Reader, project uint32, packs *packCache) *lookup {
	l := &lookup{r: r, project: project, packs: packs, key: make([]byte, 0, indexKeySize)}
	l.visit = l.one
	return l
}

// each calls fn for each place of an id that is not damaged, with the pack it is in, until fn returns true. x is good
// only during the call.
func (l *lookup) each(id *chunker.ID, fn func(x *indexRow, p *Pack) (done bool, err error)) error {
	l.key = indexPrefix(l.key, l.project, id)
	l.fn = fn
	return l.r.Scan(tableIndex, l.key, nil, l.visit)
}

func (l *lookup) one(k, v []byte) error {
	var err error
	if l.row, err = decodeIndexRow(k, v); err != nil || l.row.damaged {
		return err
	}
	p, err := l.packs.get(l.row.pack)
	if err != nil {
		return err
	}
	done, err := l.fn(&l.row, p)
	if err == nil && done {
		return store.ErrStop
	}
	return err
}

// putIndex writes the rows of a pack in ascending order of keys, which is what stores are fastest at, and the list by which they are
// found again when the pack goes.
func putIndex(w store.Writer, project uint32, pack uint64, entries []format.Entry) error {
	contents := make([]byte, 0, len(entries)*chunker.IDSize)
	for i := range entries {
		contents = append(contents, entries[i].ID[:]...)
	}
	if err := w.Put(tablePackContents, u64(pack), contents); err != nil {
		return err
	}
	order := slices.Clone(entries)
	slices.SortFunc(order, func(a, b format.Entry) int { return slices.Compare(a.ID[:], b.ID[:]) })
	rows := make([]byte, 0, len(order)*(indexRowSize+chunker.IDSize))
	for i := range order {
		x := indexRow{pack: pack, entry: order[i]}
		start := len(rows)
		rows = x.append(rows)
		if err := w.Put(tableIndex, indexKey(project, &order[i].ID, pack), rows[start:len(rows):len(rows)]); err != nil {
			return err
		}
	}
	return putPatches(w, project, pack, order)
}

// packContents returns the ids of a pack's entries in the order in which they are stored.
func packContents(r store.Reader, pack uint64) ([]chunker.ID, error) {
	b, err := r.Get(tablePackContents, u64(pack))
	if err != nil {
		return nil, fmt.Errorf("read contents of pack %d: %w", pack, err)
	}
	ids := make([]chunker.ID, len(b)/chunker.IDSize)
	for i := range ids {
		copy(ids[i][:], b[i*chunker.IDSize:])
	}
	return ids, nil
}
