package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
)

// patchWorld is a pack with a chunk in full and a patch of it.
type patchWorld struct {
	keys          *Keys
	opener        *Opener
	pack          PackID
	object        []byte
	entries       []Entry
	base, content []byte
}

func newPatchWorld(t testing.TB) *patchWorld {
	t.Helper()
	k := fuzzKeys(t)
	p := &patchWorld{keys: k, base: bytes.Repeat([]byte{1, 2, 3, 4}, chunker.MinSize/4)}
	p.content = bytes.Clone(p.base)
	p.content[chunker.BlockSize] = 77
	c, err := chunker.NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := chunker.DiffBlocks(p.base, p.content)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := c.EncodePatch(nil, p.content, &blocks)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newPackWriter(k, make([]byte, 0, 1<<17), bytes.NewReader(bytes.Repeat([]byte{9}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	h := chunker.NewHasher(k.ChunkKey())
	if err := w.Append(KindChunk, h.ID(p.base), chunker.Raw, len(p.base), p.base); err != nil {
		t.Fatal(err)
	}
	if err := w.AppendPatch(h.ID(p.content), h.ID(p.base), 1, len(p.content), patch); err != nil {
		t.Fatal(err)
	}
	object, entries, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	p.pack, p.object, p.entries = w.ID(), bytes.Clone(object), entries
	if p.opener, err = NewOpener(k); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *patchWorld) stored(i int) []byte {
	return p.object[p.entries[i].Offset:][:p.entries[i].Stored]
}

func TestPatchEntry(t *testing.T) {
	p := newPatchWorld(t)
	id, entries, err := ReadFooter(p.keys, bytes.NewReader(p.object), int64(len(p.object)))
	if err != nil || id != p.pack || len(entries) != 2 {
		t.Fatalf("pack %s with %d entries (%v)", id, len(entries), err)
	}
	if entries[1] != p.entries[1] || entries[1].Base != p.entries[0].ID || !entries[0].Base.IsZero() {
		t.Errorf("footer says %+v", entries)
	}
	if entries[1].Stored > 200 {
		t.Errorf("a patch of one block of text takes %d bytes", entries[1].Stored)
	}
	out, err := p.opener.OpenPatch(id, entries[1], p.stored(1), p.base, nil)
	if err != nil || !bytes.Equal(out, p.content) {
		t.Errorf("the patch makes another chunk (%v)", err)
	}
	for name, open := range map[string]func(PackID, Entry, []byte, []byte) ([]byte, error){"Open": p.opener.Open, "OpenVerified": p.opener.OpenVerified} {
		if _, err := open(id, entries[1], p.stored(1), nil); !errors.Is(err, ErrNeedsBase) {
			t.Errorf("%s without the base: %v", name, err)
		}
	}
}

func TestOpenPatchRefuses(t *testing.T) {
	p := newPatchWorld(t)
	e := p.entries[1]
	other := bytes.Clone(p.base)
	other[len(other)-1]++
	tests := []struct {
		name string
		edit func(e *Entry)
		base []byte
		want error
	}{
		{"another base's content", nil, other, ErrIDMismatch},
		{"base that is shorter", nil, p.base[1:], ErrCorrupt},
		{"no base", nil, nil, ErrCorrupt},
		{"another base's id", func(e *Entry) { e.Base[0]++ }, p.base, ErrCorrupt},
		{"zero base", func(e *Entry) { e.Base = chunker.Zero }, p.base, ErrCorrupt},
		{"itself as its base", func(e *Entry) { e.Base = e.ID }, p.base, ErrCorrupt},
		{"a node", func(e *Entry) { e.Kind = KindNode; e.Raw = 100 }, p.base[:100], ErrCorrupt},
		{"another codec", func(e *Entry) { e.Codec, e.Base = chunker.Zstd, chunker.Zero }, p.base, ErrCorrupt},
		{"another length", func(e *Entry) { e.Raw-- }, p.base[1:], ErrCorrupt},
		{"unknown codec", func(e *Entry) { e.Codec = 3 }, p.base, ErrVersion},
		{"a base and no patch", func(e *Entry) { e.Codec = chunker.Zstd }, p.base, ErrCorrupt},
	}
	for _, test := range tests {
		e := e
		if test.edit != nil {
			test.edit(&e)
		}
		if _, err := p.opener.OpenPatch(p.pack, e, p.stored(1), test.base, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	if _, err := p.opener.OpenPatch(p.pack, p.entries[0], p.stored(0), p.base, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an entry that is no patch: %v", err)
	}
	if _, err := p.opener.OpenPatch(p.pack, e, p.stored(1), p.base, nil); err != nil {
		t.Errorf("after all that the good one: %v", err)
	}
}

// TestPatchedPackNeedsFlag shows what a reader without the feature sees, and that the flag says neither more nor less than the footer.
func TestPatchedPackNeedsFlag(t *testing.T) {
	p := newPatchWorld(t)
	keyID := p.keys.ID()
	if err := checkEnvelope(p.object, packMagic, "pack", &keyID); !errors.Is(err, ErrVersion) {
		t.Errorf("a reader that does not know patches: %v", err)
	}
	read := func(b []byte) error {
		_, _, err := ReadFooter(p.keys, bytes.NewReader(b), int64(len(b)))
		return err
	}
	without := bytes.Clone(p.object)
	putFlags(without, 0)
	if err := read(without); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a patch without the flag: %v", err)
	}
	other := bytes.Clone(p.object)
	putFlags(other, flagPatches|2)
	if err := read(other); !errors.Is(err, ErrVersion) {
		t.Errorf("another flag: %v", err)
	}
	plain := fuzzPack(t, p.keys)
	putFlags(plain, flagPatches)
	if err := read(plain); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the flag without a patch: %v", err)
	}
	count := bytes.Clone(p.object)
	binary.LittleEndian.PutUint32(count[len(count)-12:], 1)
	if err := read(count); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a trailer with one entry less: %v", err)
	}
}

func TestPatchedEntriesRefused(t *testing.T) {
	p := newPatchWorld(t)
	good := MarshalEntries(p.entries)
	if back, err := UnmarshalEntries(good); err != nil || len(back) != 2 || back[1] != p.entries[1] {
		t.Fatalf("entries come back as %+v (%v)", back, err)
	}
	edit := func(fn func(e *Entry)) []byte {
		e := p.entries[1]
		fn(&e)
		return MarshalEntries([]Entry{p.entries[0], e})
	}
	for name, b := range map[string][]byte{
		"cut in the base":    good[:len(good)-1],
		"without the base":   good[:len(good)-baseSize],
		"something behind":   append(bytes.Clone(good), 0),
		"zero base":          edit(func(e *Entry) { e.Base = chunker.Zero }),
		"itself as its base": edit(func(e *Entry) { e.Base = e.ID }),
		"node":               edit(func(e *Entry) { e.Kind, e.Raw = KindNode, 200 }),
		"longer than raw":    edit(func(e *Entry) { e.Stored = e.Raw + tagSize + 1 }),
	} {
		if _, err := UnmarshalEntries(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPatchRoom fills packs of every size to the last byte.
func TestPatchRoom(t *testing.T) {
	p := newPatchWorld(t)
	patch := make([]byte, 300)
	for size := 400; size < 2000; size += 7 {
		w, err := NewPackWriter(p.keys, make([]byte, 0, size))
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			room := w.Room(len(patch) + chunker.IDSize)
			err = w.AppendPatch(chunker.ID{1, byte(w.Count())}, chunker.ID{2}, 1, chunker.MinSize, patch)
			if room != (err == nil) {
				t.Fatalf("room for entry %d in %d bytes: %t, then %v", w.Count(), size, room, err)
			}
		}
		if !errors.Is(err, ErrPackFull) {
			t.Fatal(err)
		}
		if w.Count() == 0 {
			continue
		}
		length := w.Len()
		object, _, err := w.Finish()
		if err != nil || len(object) != length || length > size {
			t.Fatalf("%d bytes, announced %d, limit %d (%v)", len(object), length, size, err)
		}
		if _, _, err := ReadFooter(p.keys, bytes.NewReader(object), int64(length)); err != nil {
			t.Fatal(err)
		}
		if err := w.Reset(); err != nil {
			t.Fatal(err)
		}
		if err := w.Append(KindChunk, chunker.ID{1}, chunker.Raw, 20, make([]byte, 20)); err != nil {
			t.Fatal(err)
		}
		if object, _, err = w.Finish(); err != nil {
			t.Fatal(err)
		}
		if f := binary.LittleEndian.Uint16(object[6:]); f != 0 {
			t.Fatalf("the next pack has no patch and flags %d", f)
		}
	}
}

// FuzzOpenPatch opens what anybody may have sealed as a patch of a chunk.
func FuzzOpenPatch(f *testing.F) {
	p := newPatchWorld(f)
	f.Add(uint32(len(p.base)), []byte{1, 1, 0, 9})
	f.Add(uint32(8192), append([]byte{0, 2}, make([]byte, 4096)...))
	f.Add(uint32(chunker.MaxSize), []byte{1})
	f.Fuzz(func(t *testing.T, raw uint32, patch []byte) {
		e := Entry{Kind: KindChunk, Codec: chunker.Patch, ID: chunker.ID{5}, Base: chunker.ID{6}, Raw: raw, Stored: uint32(len(patch) + tagSize)}
		base := make([]byte, min(raw, chunker.MaxSize))
		if _, err := p.opener.OpenPatch(PackID{3}, e, patch, base, nil); err == nil {
			t.Error("a patch that nobody sealed opened")
		} else {
			clean(t, err)
		}
		if e.check() != nil {
			return
		}
		var n [12]byte
		sealed := p.keys.sealer(make([]byte, 32), packInfo).Seal(nil, nonce(&n, 0), patch, e.associated(nil))
		out, err := p.opener.OpenPatch(PackID{}, e, sealed, base, nil)
		clean(t, err)
		if err == nil {
			t.Errorf("content without an id opened: %d bytes", len(out))
		}
	})
}
