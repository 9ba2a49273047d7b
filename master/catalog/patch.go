package catalog

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// A patch is of use while its base is stored in full where whoever asks may look. The invariant: whatever pins, marks or resolves a
// patch does the same with its base.
//
// tablePatches finds the patches of a base when that is damaged or found again. Its keys are
//
//	project number u32, base [32], id [32], pack seq u64
//
// big-endian; there are no values.
const patchKeySize = 4 + 2*chunker.IDSize + 8

func patchKey(project uint32, base, id *chunker.ID, pack uint64) []byte {
	k := indexPrefix(make([]byte, 0, patchKeySize), project, base)
	k = append(k, id[:]...)
	return binary.BigEndian.AppendUint64(k, pack)
}

// putPatches writes the keys of a pack's patches.
func putPatches(w store.Writer, project uint32, pack uint64, entries []format.Entry) error {
	for _, e := range byBase(entries) {
		if err := w.Put(tablePatches, patchKey(project, &e.Base, &e.ID, pack), nil); err != nil {
			return err
		}
	}
	return nil
}

// byBase returns the patches among entries in the order of the index.
func byBase(entries []format.Entry) []*format.Entry {
	var patches []*format.Entry
	for i := range entries {
		if entries[i].IsPatch() {
			patches = append(patches, &entries[i])
		}
	}
	slices.SortFunc(patches, func(a, b *format.Entry) int {
		if v := slices.Compare(a.Base[:], b.Base[:]); v != 0 {
			return v
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
	return patches
}

// patchesOf calls fn for each patch of a base, at most limit of them.
func patchesOf(r store.Reader, project uint32, base *chunker.ID, limit int, fn func(id chunker.ID, pack uint64) error) error {
	return r.Scan(tablePatches, indexPrefix(nil, project, base), nil, func(k, _ []byte) error {
		if limit--; limit < 0 {
			return store.ErrStop
		}
		if len(k) != patchKeySize {
			return fmt.Errorf("read patches of %s: key of %d bytes", base, len(k))
		}
		return fn(chunker.ID(k[4+chunker.IDSize:]), binary.BigEndian.Uint64(k[patchKeySize-8:]))
	})
}

// eachBase calls fn for each pack in which the base of e is stored in full and undamaged, with the length that e has, until fn returns true.
// It may be called from within each.
func (l *lookup) eachBase(e *format.Entry, fn func(p *Pack) (done bool, err error)) error {
	if l.bases == nil {
		l.bases = newLookupIn(l.r, l.project, l.packs)
	}
	raw := e.Raw
	return l.bases.each(&e.Base, func(b *indexRow, p *Pack) (bool, error) {
		if b.entry.Kind != format.KindChunk || b.entry.IsPatch() || b.entry.Raw != raw {
			return false, nil
		}
		return fn(p)
	})
}

// complete reports whether what is needed to open e beside itself is in packs that are allowed.
func (l *lookup) complete(e *format.Entry, allowed func(*Pack) bool) (ok bool, err error) {
	if !e.IsPatch() {
		return true, nil
	}
	err = l.eachBase(e, func(p *Pack) (bool, error) {
		ok = allowed(p)
		return ok, nil
	})
	return ok, err
}

// basePack returns the pack that holds the base of a patch where the session may look, one that is pinned already if there is one; nil when
// there is none.
func (o *offer) basePack(e *format.Entry) (best *Pack, err error) {
	err = o.eachBase(e, func(p *Pack) (bool, error) {
		if !p.usable(o.machine) {
			return false, nil
		}
		pinned, err := o.isPinned(p.Seq)
		if pinned || best == nil || best.Proven.IsZero() {
			best = p
		}
		return pinned, err
	})
	return best, err
}

// pinBases pins for a session the packs that hold the bases of the patches in list. CodeMissing when one is nowhere where this
// session may look: then the agent sends those chunks in full. The pack of list itself is not looked at, because it is not live yet.
func pinBases(w store.Writer, project uint32, s *Session, list []format.Entry) error {
	patches := byBase(list)
	if len(patches) == 0 {
		return nil
	}
	epoch, err := getUint(w, tableMeta, metaEpoch)
	if err != nil {
		return err
	}
	o := newSessionLookup(w, project, s)
	var missing []string
	n := 0
	for _, e := range patches {
		p, err := o.basePack(e)
		if err != nil {
			return err
		}
		if p == nil {
			if n++; len(missing) < tellFirst {
				missing = append(missing, e.Base.String())
			}
			continue
		}
		if err := o.pin(w, p, epoch); err != nil {
			return err
		}
	}
	if n == 0 {
		return nil
	}
	return wire.NewProblem(422, wire.CodeMissing, "%d patches are of chunks that this machine may not use, or that are not stored in full: %s",
		n, strings.Join(missing, ", ")).WithNext("send what was patched in full, in a new pack")
}

// losePatches puts the patches of a base that can not be read any more on the list of lost ids, but for those that another copy
// makes whole. It looks at no more than make every session begin from nothing (maxLost).
func losePatches(w store.Writer, l *lookup, base *chunker.ID) (lost int, err error) {
	type patch struct {
		id   chunker.ID
		pack uint64
	}
	var patches []patch
	err = patchesOf(w, l.project, base, maxLost+1, func(id chunker.ID, pack uint64) error {
		patches = append(patches, patch{id, pack})
		return nil
	})
	if err != nil {
		return 0, err
	}
	for i := range patches {
		p, err := l.packs.get(patches[i].pack)
		if err != nil {
			return lost, err
		}
		loc, err := l.locate(&patches[i].id, func(o *Pack) bool { return o.readable(p.Machine) })
		if err != nil {
			return lost, err
		}
		if loc.Found {
			continue
		}
		lost++
		if err := w.Put(tableLost, lostKey(l.project, &patches[i].id), nil); err != nil {
			return lost, err
		}
	}
	return lost, nil
}

// findPatches takes proven patches of a base that was found again off the list of lost ids.
func findPatches(w store.Writer, l *lookup, base *chunker.ID) error {
	var ids []chunker.ID
	err := patchesOf(w, l.project, base, maxLost+1, func(id chunker.ID, _ uint64) error {
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range ids {
		loc, err := l.locate(&ids[i], (*Pack).isProven)
		if err != nil {
			return err
		}
		if !loc.Found {
			continue
		}
		if err := w.Delete(tableLost, lostKey(l.project, &ids[i])); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pack) isProven() bool { return p.State == PackLive && !p.Proven.IsZero() }
