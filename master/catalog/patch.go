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

// A patch is of use while its base is stored, with less depth, where whoever asks may look, and so on down to a chunk in full. The invariant: whatever
// pins, marks or resolves a patch does the same with what it stands on.
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

// maxSteps bounds how many copies chain looks at for one entry. Few chunks have more than one.
const maxSteps = 256

// chain returns the packs that must be read beside e to open it: of a copy of its base, of what that stands on, and so on, each
// undamaged and in a pack that is allowed. ok: there are such; what is no patch needs none. It may be called from within each.
func (l *lookup) chain(e *format.Entry, allowed func(*Pack) (bool, error)) (packs []*Pack, ok bool, err error) {
	l.steps = 0
	return l.stand(e, allowed, l)
}

// stand is chain below the entry that root was asked for, which counts the steps. Every base has less depth than what stands on it.
func (l *lookup) stand(e *format.Entry, allowed func(*Pack) (bool, error), root *lookup) (packs []*Pack, ok bool, err error) {
	if !e.IsPatch() {
		return nil, true, nil
	}
	if l.bases == nil {
		l.bases = newLookupIn(l.r, l.project, l.packs)
	}
	err = l.bases.each(&e.Base, func(b *indexRow, p *Pack) (bool, error) {
		if root.steps++; root.steps > maxSteps {
			return true, nil
		}
		if !e.StandsOn(&b.entry) {
			return false, nil
		}
		may, err := allowed(p)
		if err != nil || !may {
			return false, err
		}
		packs, ok, err = l.bases.stand(&b.entry, allowed, root)
		if ok {
			packs = append(packs, p)
		}
		return ok, err
	})
	return packs, ok, err
}

// complete reports whether what is needed to open e beside itself is in packs that are allowed.
func (l *lookup) complete(e *format.Entry, allowed func(*Pack) bool) (bool, error) {
	_, ok, err := l.chain(e, func(p *Pack) (bool, error) { return allowed(p), nil })
	return ok, err
}

// mayUse reports whether the session may use what is in a pack.
func (o *offer) mayUse(p *Pack) (bool, error) { return p.usable(o.machine), nil }

// hasPinned reports whether it may, and has pinned the pack.
func (o *offer) hasPinned(p *Pack) (bool, error) {
	if !p.usable(o.machine) {
		return false, nil
	}
	return o.isPinned(p.Seq)
}

// stands returns the packs that must be pinned for a patch beside its own, those that are pinned already if that will do.
func (o *offer) stands(e *format.Entry) (packs []*Pack, pinned, ok bool, err error) {
	if packs, ok, err = o.chain(e, o.hasPinned); ok || err != nil {
		return packs, ok, ok, err
	}
	packs, ok, err = o.chain(e, o.mayUse)
	return packs, false, ok, err
}

// pinBases pins for a session the packs that hold what the patches in list stand on. CodeMissing when one is nowhere where this
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
		packs, _, ok, err := o.stands(e)
		if err != nil {
			return err
		}
		if !ok {
			if n++; len(missing) < tellFirst {
				missing = append(missing, e.Base.String())
			}
			continue
		}
		for _, p := range packs {
			if err := o.pin(w, p, epoch); err != nil {
				return err
			}
		}
	}
	if n == 0 {
		return nil
	}
	return wire.NewProblem(422, wire.CodeMissing, "%d patches are of chunks that this machine may not use, or that are not stored with less depth: %s",
		n, strings.Join(missing, ", ")).WithNext("send what was patched in full, in a new pack")
}

// losePatches puts the patches that stand on a chunk that can not be read any more on the list of lost ids, but for those that other copies
// make whole. It looks at no more than make every session begin from nothing (maxLost).
func losePatches(w store.Writer, l *lookup, base *chunker.ID) (lost int, err error) {
	err = onTop(w, l, base, func(id *chunker.ID, pack uint64) (bool, error) {
		p, err := l.packs.get(pack)
		if err != nil {
			return false, err
		}
		loc, err := l.locate(id, func(o *Pack) bool { return o.readable(p.Machine) })
		if err != nil || loc.Found {
			return false, err
		}
		lost++
		return true, w.Put(tableLost, lostKey(l.project, id), nil)
	})
	return lost, err
}

// findPatches takes what stands on a chunk that was found again, and is proven, off the list of lost ids.
func findPatches(w store.Writer, l *lookup, base *chunker.ID) error {
	return onTop(w, l, base, func(id *chunker.ID, _ uint64) (bool, error) {
		loc, err := l.locate(id, (*Pack).isProven)
		if err != nil || !loc.Found {
			return false, err
		}
		return true, w.Delete(tableLost, lostKey(l.project, id))
	})
}

// onTop calls fn for the patches of a chunk, then for those of each for which it returned true, and so on: maxLost at most.
func onTop(r store.Reader, l *lookup, base *chunker.ID, fn func(id *chunker.ID, pack uint64) (more bool, err error)) error {
	type patch struct {
		id   chunker.ID
		pack uint64
	}
	seen := map[chunker.ID]bool{*base: true}
	for todo := []chunker.ID{*base}; len(todo) > 0; todo = todo[1:] {
		var patches []patch
		err := patchesOf(r, l.project, &todo[0], maxLost+1, func(id chunker.ID, pack uint64) error {
			patches = append(patches, patch{id, pack})
			return nil
		})
		if err != nil {
			return err
		}
		for i := range patches {
			p := &patches[i]
			more, err := fn(&p.id, p.pack)
			if err != nil {
				return err
			}
			if more && !seen[p.id] && len(seen) <= maxLost {
				seen[p.id] = true
				todo = append(todo, p.id)
			}
		}
	}
	return nil
}

func (p *Pack) isProven() bool { return p.State == PackLive && !p.Proven.IsZero() }
