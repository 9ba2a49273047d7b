package hydrator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// touched is a copy of img in which one byte of every nth chunk is another, each time somewhere else.
func touched(img []byte, nth, round int) []byte {
	img = bytes.Clone(img)
	for i := 0; i < len(img)/testChunk; i += nth {
		img[i*testChunk+(i*37+round*5000)%testChunk]++
	}
	return img
}

// patched is a world with an image in full, and later ones of which each is patches of the first, or if deep is set of the one before.
func patched(t *testing.T, chunks, packSize int, deep bool) (w *hydratortest.World, images [][]byte, points []*hydratortest.Replicated) {
	t.Helper()
	w = hydratortest.NewWorld(t, nil)
	first := unique(50, chunks)
	images = [][]byte{first}
	points = append(points, w.Replicate(t, "r0", hydratortest.Image{Data: first, PackSize: packSize}))
	for round := 1; round < 4; round++ {
		img := touched(images[round-1], 3, round)
		base := first
		if deep {
			base = images[round-1]
		}
		images = append(images, img)
		points = append(points, w.Replicate(t, "r"+string(rune('0'+round)), hydratortest.Image{Data: img, PackSize: packSize, Base: base}))
	}
	for i, id := range points[3].Chunks {
		at := w.Where(id)
		depth := uint8(0)
		if i%3 == 0 {
			depth = 1
			if deep {
				depth = 3
			}
		}
		if len(at) != 1 || at[0].Entry.Depth != depth {
			t.Fatalf("chunk %d is stored as %+v", i, at)
		}
	}
	return w, images, points
}

func TestPatches(t *testing.T) {
	for name, test := range map[string]struct {
		packSize int
		deep     bool
	}{"packs of 1 MiB": {packSize: 1 << 20}, "packs of few entries": {packSize: 150 << 10}, "patches of patches": {1 << 20, true},
		"patches of patches in packs of few entries": {150 << 10, true}} {
		t.Run(name, func(t *testing.T) {
			w, images, points := patched(t, 90, test.packSize, test.deep)
			warm := filepath.Join(t.TempDir(), "warm.raw")
			for i := range points {
				mustRestore(t, w, points[i], filepath.Join(t.TempDir(), "cold.raw"), images[i], restoreOptions{batch: 40})
				res := mustRestore(t, w, points[i], warm, images[i], restoreOptions{})
				if i > 0 && res.Chunks != 30 {
					t.Errorf("restpoint %d: wrote %d chunks over the one before, 30 differ", i, res.Chunks)
				}
			}
			before := w.Gets()
			mustRestore(t, w, points[3], filepath.Join(t.TempDir(), "cold.raw"), images[3], restoreOptions{})
			if n := w.Gets() - before; test.packSize == 1<<20 && n > 40 {
				t.Errorf("%d requests for 90 chunks in packs of 1 MiB", n)
			}
			mustRestore(t, w, points[1], warm, images[1], restoreOptions{})
			res, err := verify(context.Background(), newReader(t, w, points[3]), points[3].Restpoint, nil, func(wire.Progress) {})
			if err != nil || res.Chunks != 90 || res.Damaged != 0 {
				t.Errorf("verify: %+v, %v", res, err)
			}
			if len(w.Damage()) != 0 {
				t.Errorf("damage where there is none: %+v", w.Damage())
			}
		})
	}
}

// TestHostilePatches: whatever is wrong with a patch or its base, the rest is written, and the error names the pack and the entry.
func TestHostilePatches(t *testing.T) {
	const at = 12        // chunk that is a patch
	var other chunker.ID // a chunk that is stored in full
	bad := func(raw int, payload []byte, base chunker.ID) func(*testing.T, *hydratortest.World, wire.Location) {
		return func(t *testing.T, w *hydratortest.World, l wire.Location) {
			t.Helper()
			pw, err := format.NewPackWriter(w.Keys, make([]byte, 0, 1<<20))
			if err != nil {
				t.Fatal(err)
			}
			if base.IsZero() {
				base = l.Entry.Base
			}
			if err := pw.AppendPatch(l.Entry.ID, base, 1, raw, payload); err != nil {
				t.Fatal(err)
			}
			w.Forget(l.Entry.ID)
			w.Put(t, pw)
		}
	}
	bitmap := func(bits ...int) []byte {
		b := make([]byte, 3)
		for _, i := range bits {
			b[1+i/8] |= 1 << (i % 8)
		}
		return b
	}
	block := make([]byte, chunker.BlockSize)
	tests := map[string]struct {
		hurt func(t *testing.T, w *hydratortest.World, l wire.Location)
		base bool // the base is at fault, and is named
	}{
		"other content":        {hurt: bad(testChunk, append(bitmap(3), block...), chunker.Zero)},
		"bitmap past the end":  {hurt: bad(testChunk, append([]byte{0, 0, 0, 1}, block...), chunker.Zero)},
		"no block":             {hurt: bad(testChunk, append(bitmap(), block...), chunker.Zero)},
		"block too few":        {hurt: bad(testChunk, append(bitmap(1, 2), block...), chunker.Zero)},
		"patch within a patch": {hurt: bad(testChunk, append([]byte{2, 1, 0}, block...), chunker.Zero)},
		"too short":            {hurt: bad(testChunk, []byte{0}, chunker.Zero)},
		"another length":       {hurt: bad(testChunk-1, append(bitmap(3), block...), chunker.Zero)},
		"unknown base":         {hurt: bad(testChunk, append(bitmap(3), block...), chunker.ID{1, 2, 3}), base: true},
		"flipped bit": {hurt: func(_ *testing.T, w *hydratortest.World, l wire.Location) {
			w.Store.Corrupt(l.Pack.Name(), flip(l.Entry.Offset+5))
		}},
		"another base in the index": {hurt: func(_ *testing.T, w *hydratortest.World, l wire.Location) {
			w.EditLocations(func(x *wire.Location) {
				if x.Entry.ID == l.Entry.ID {
					x.Entry.Base = other
				}
			})
		}},
		"base of the same depth": {hurt: func(_ *testing.T, w *hydratortest.World, l wire.Location) {
			w.EditLocations(func(x *wire.Location) {
				if x.Entry.ID == l.Entry.Base {
					x.Entry.Codec, x.Entry.Base, x.Entry.Depth, x.Entry.Stored = chunker.Patch, l.Entry.ID, 1, 100
				}
			})
		}, base: true},
		"base of another length": {hurt: func(_ *testing.T, w *hydratortest.World, l wire.Location) {
			w.EditLocations(func(x *wire.Location) {
				if x.Entry.ID == l.Entry.Base {
					x.Entry.Codec, x.Entry.Raw = chunker.Zstd, x.Entry.Raw+1
				}
			})
		}, base: true},
		"base is gone": {hurt: func(_ *testing.T, w *hydratortest.World, l wire.Location) { w.Forget(l.Entry.Base) }, base: true},
		"base is damaged": {hurt: func(_ *testing.T, w *hydratortest.World, l wire.Location) {
			b := w.Where(l.Entry.Base)[0]
			w.Store.Corrupt(b.Pack.Name(), flip(b.Entry.Offset+5))
		}, base: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w, images, points := patched(t, 30, 1<<20, false)
			rp, img := points[3], images[3]
			other = points[0].Chunks[0]
			was := w.Where(rp.Chunks[at])[0]
			test.hurt(t, w, was)
			now := was
			if l := w.Where(was.Entry.ID); len(l) > 0 {
				now = l[0]
			}
			path := filepath.Join(t.TempDir(), "disk.raw")
			res, err := restoreTo(t, w, rp, path, restoreOptions{})
			if !errors.Is(err, ErrDamaged) || res.Damaged != 1 {
				t.Fatalf("damaged %d, %v", res.Damaged, err)
			}
			names := []string{was.Entry.ID.String()}
			if name != "another length" { // which the location itself shows
				names = append(names, now.Pack.String())
			}
			if test.base {
				names = append(names, now.Entry.Base.String())
			}
			for _, s := range names {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("the error does not name %s: %v", s, err)
				}
			}
			for _, d := range w.Damage() {
				if (d.ID == was.Entry.ID.String()) == test.base {
					t.Errorf("the base is at fault: %t; reported: %+v", test.base, d)
				}
			}
			if n := differing(t, path, img); n != 1 {
				t.Errorf("%d chunks differ", n)
			}
			w.EditLocations(nil)
			again := w.Replicate(t, "again", hydratortest.Image{Data: img, Copies: 2})
			mustRestore(t, w, again, path, img, restoreOptions{})
			if j, err := journal.Open(path + journal.Suffix); err != nil || j.State().To != nil {
				t.Errorf("the journal is %+v, %v", j.State(), err)
			}
		})
	}
}

// TestPatchWithABadBaseFindsAnotherCopy: of the base, or of the whole chunk.
func TestPatchWithABadBaseFindsAnotherCopy(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	first := unique(51, 40)
	w.Replicate(t, "r0", hydratortest.Image{Data: first, Copies: 2})
	img := touched(first, 1, 1)
	rp := w.Replicate(t, "r1", hydratortest.Image{Data: img, Base: first})
	l := w.Where(rp.Chunks[7])[0]
	base := w.Where(l.Entry.Base)
	if !l.Entry.IsPatch() || len(base) != 2 {
		t.Fatalf("a patch %t with %d bases", l.Entry.IsPatch(), len(base))
	}
	w.Store.Corrupt(base[0].Pack.Name(), flip(base[0].Entry.Offset+5))
	mustRestore(t, w, rp, filepath.Join(t.TempDir(), "disk.raw"), img, restoreOptions{})
	if d := w.Damage(); len(d) != 1 || d[0].Pack != base[0].Pack.String() || d[0].ID != l.Entry.Base.String() {
		t.Errorf("reported %+v", d)
	}
}

// TestDeepPatches: of patches on patches up to the limit each restores, and damage anywhere below is found where it is.
func TestDeepPatches(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := unique(52, 8)
	w.Replicate(t, "r0", hydratortest.Image{Data: img})
	var rp *hydratortest.Replicated
	for round := 1; round <= format.MaxDepth; round++ {
		before := img
		img = touched(img, 1, round)
		rp = w.Replicate(t, fmt.Sprintf("r%d", round), hydratortest.Image{Data: img, Base: before})
		if e := w.Where(rp.Chunks[5])[0].Entry; int(e.Depth) != round {
			t.Fatalf("round %d: depth %d", round, e.Depth)
		}
		mustRestore(t, w, rp, filepath.Join(t.TempDir(), "disk.raw"), img, restoreOptions{})
	}
	at := w.Where(rp.Chunks[5])[0]
	for range 7 {
		at = w.Where(at.Entry.Base)[0]
	}
	w.Store.Corrupt(at.Pack.Name(), flip(at.Entry.Offset+5))
	path := filepath.Join(t.TempDir(), "disk.raw")
	if res, err := restoreTo(t, w, rp, path, restoreOptions{}); !errors.Is(err, ErrDamaged) || res.Damaged != 1 {
		t.Fatalf("damaged %d, %v", res.Damaged, err)
	}
	if n := differing(t, path, img); n != 1 {
		t.Errorf("%d chunks differ", n)
	}
	for _, d := range w.Damage() {
		if d.ID != at.Entry.ID.String() || d.Pack != at.Pack.String() {
			t.Errorf("reported %+v, damaged is %s in %s", d, at.Entry.ID, at.Pack)
		}
	}
	if len(w.Damage()) == 0 {
		t.Error("nothing was reported")
	}
}

func TestProvePatches(t *testing.T) {
	w, _, points := patched(t, 150, 1<<20, false)
	rp := points[3]
	job := w.Job(wire.JobProve, nil)
	job.Packs = rp.Packs
	run := func() (wire.JobResult, error) {
		return prove(context.Background(), newReader(t, w, rp), w, job, func(wire.Progress) {})
	}
	if res, err := run(); err != nil || res.Chunks != 54 || res.Damaged != 0 {
		t.Fatalf("50 patches and 4 nodes: %+v, %v", res, err)
	}
	patch := w.Where(rp.Chunks[30])[0]
	base := w.Where(patch.Entry.Base)[0]
	w.Forget(patch.Entry.Base)
	other := w.Where(rp.Chunks[33])[0]
	w.Store.Corrupt(other.Pack.Name(), flip(other.Entry.Offset+2))
	res, err := run()
	if !errors.Is(err, ErrDamaged) || res.Damaged != 2 || res.Chunks != 52 || len(w.Damage()) != 2 {
		t.Fatalf("%+v, %v, %+v", res, err, w.Damage())
	}
	for _, d := range w.Damage() {
		if d.ID != patch.Entry.ID.String() && d.ID != other.Entry.ID.String() {
			t.Errorf("reported %+v, the base was in %s", d, base.Pack)
		}
	}
}

// TestProveComparesEntries: a pack that lists other entries than its writer told the master proves nothing.
func TestProveComparesEntries(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: unique(52, 10)})
	job := w.Job(wire.JobProve, nil)
	job.Packs = rp.Packs
	job.Packs[0].Contents = bytes.Repeat([]byte{1}, 32)
	res, err := prove(context.Background(), newReader(t, w, rp), w, job, func(wire.Progress) {})
	if !errors.Is(err, ErrDamaged) || res.Damaged != 1 || len(w.Damage()) != 1 || w.Damage()[0].ID != "" {
		t.Errorf("%+v, %v, %+v", res, err, w.Damage())
	}
}
