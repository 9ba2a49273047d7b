package gc_test

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

func check(t testing.TB, e *catalogtest.Env, deep bool) gc.CheckReport {
	t.Helper()
	return must[gc.CheckReport](t)(collector(e).Check(t.Context(), &gc.CheckOptions{Deep: deep}))
}

func TestCheck(t *testing.T) {
	first := func(prefix string) func(*testing.T, *catalogtest.Env) string {
		return func(t *testing.T, e *catalogtest.Env) string {
			return slices.Sorted(maps.Keys(objects(t, e, prefix)))[0]
		}
	}
	corrupt := func(at func(n int) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(len(b))] ^= 1; return b }
	}
	middle := func(n int) int { return n / 2 }
	tests := []struct {
		name   string
		object func(*testing.T, *catalogtest.Env) string
		fn     func([]byte) []byte
		deep   bool // only a deep check finds it
		orphan bool // it is no problem
	}{
		{"pack gone", first("packs/"), func([]byte) []byte { return nil }, false, false},
		{"pack cut short", first("packs/"), func(b []byte) []byte { return b[:len(b)-1] }, false, false},
		{"pack longer", first("packs/"), func(b []byte) []byte { return append(b, 0) }, false, false},
		{"pack header", first("packs/"), corrupt(func(int) int { return 20 }), true, false},
		{"pack footer", first("packs/"), corrupt(func(n int) int { return n - 20 }), true, false},
		{"pack trailer", first("packs/"), corrupt(func(n int) int { return n - 1 }), true, false},
		{"restpoint gone", first("restpoints/"), func([]byte) []byte { return nil }, false, false},
		{"restpoint corrupt", first("restpoints/"), corrupt(middle), false, false},
		{"restpoint signature", first("restpoints/"), corrupt(func(n int) int { return n - 1 }), false, false},
		{"machine gone", first("machines/"), func([]byte) []byte { return nil }, false, false},
		{"machine corrupt", first("machines/"), corrupt(middle), false, false},
		{"foreign restpoint", func(*testing.T, *catalogtest.Env) string { return "restpoints/a/b" }, func([]byte) []byte { return []byte("x") }, false, false},
		{"orphan pack", func(*testing.T, *catalogtest.Env) string { return format.PackID{1}.Name() }, func([]byte) []byte { return []byte("x") }, false, true},
		{"orphan", func(*testing.T, *catalogtest.Env) string { return "packs/x" }, func([]byte) []byte { return []byte("x") }, false, true},
		{"orphan machine", func(*testing.T, *catalogtest.Env) string { return "machines/x" }, func([]byte) []byte { return []byte("x") }, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, _, restpoints := two(t)
			for _, deep := range []bool{false, true} {
				if r := check(t, e, deep); !r.OK || r.OrphanCount != 0 || r.Restpoints != len(restpoints) || r.Machines != 2 || r.Packs == 0 || (r.PacksRead == r.Packs) != deep {
					t.Fatalf("a world in order: %+v", r)
				}
			}
			name := tt.object(t, e)
			e.Bucket.Corrupt(name, tt.fn)
			before := objects(t, e, "")
			for _, deep := range []bool{false, true} {
				r := check(t, e, deep)
				if want := tt.orphan || tt.deep && !deep; r.OK != want {
					t.Fatalf("deep: %v, ok: %v, want %v: %+v", deep, r.OK, want, r)
				}
				if !r.OK && !slices.ContainsFunc(r.List, func(p gc.Problem) bool { return p.Object == name && p.Next != "" && p.Message != "" }) {
					t.Errorf("%s is not named with what to do: %+v", name, r.List)
				}
				if tt.orphan != (r.OrphanCount == 1 && r.Orphans[0] == name) {
					t.Errorf("orphans: %d, %v", r.OrphanCount, r.Orphans)
				}
			}
			if !maps.Equal(before, objects(t, e, "")) {
				t.Error("a check changed the bucket")
			}
		})
	}
}

// splitDisk replicates d with its chunks and its nodes in packs of their own, and returns the one of the chunks.
func splitDisk(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, d catalogtest.Disk) (restpoint, chunks string) {
	t.Helper()
	c := must[*catalogtest.Cycle](t)(a.Open("", d))
	for _, kind := range []format.Kind{format.KindChunk, format.KindNode} {
		pieces := slices.DeleteFunc(slices.Clone(c.Pieces), func(p catalogtest.Piece) bool { return p.Kind != kind })
		for _, p := range must[[]catalogtest.Pack](t)(e.MakePacks(pieces)) {
			if err := c.Upload(&p); err != nil {
				t.Fatal(err)
			}
			if kind == format.KindChunk {
				chunks = p.ID.String()
			}
		}
	}
	return must[wire.Committed](t)(c.Commit(must[[]byte](t)(c.Manifest()))).Restpoint, chunks
}

// A chunk that is missing breaks every restpoint that has it, also those that share all their nodes.
func TestMissingChunks(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	d := disk("d", 1, 100, 0, 1, 2, 80)
	_, chunks := splitDisk(t, e, a, d)
	a.Replicate(d)
	a.Replicate(changed(d, 80))
	whole := disk("d", 2, 100, 5)
	p, _ := a.Replicate(whole)
	publish(t, e)
	if err := e.Catalog.Quarantine(t.Context(), "default", []wire.Damage{{Pack: chunks, Reason: "test"}}); err != nil {
		t.Fatal(err)
	}
	if r := check(t, e, false); r.RestpointsBroken != 3 || r.Restpoints != 4 {
		t.Errorf("check: %+v", r)
	}
	id := must[format.PackID](t)(format.ParsePackID(chunks))
	e.Bucket.Corrupt(id.Name(), func([]byte) []byte { return nil })
	n := lose(t, e)
	r := must[gc.RebuildReport](t)(collector(n).Rebuild(t.Context(), nil))
	if r.RestpointsAdded != 1 || r.Count != 3 || !strings.Contains(r.List[0].Message, "4 chunks have no copy") {
		t.Errorf("rebuild: %+v", r)
	}
	n.MustRestore(p, whole)
}

// Packs of very many small entries have footers that do not fit into one read of their end.
func TestLongFooter(t *testing.T) {
	e := catalogtest.New(t, nil)
	const entries = 5000
	w := must[*format.PackWriter](t)(format.NewPackWriter(e.Keys, make([]byte, 1<<20)))
	for i := range entries {
		var id chunker.ID
		binary.BigEndian.PutUint64(id[:], uint64(i+1))
		if err := w.Append(format.KindChunk, id, chunker.Raw, 8, id[:8]); err != nil {
			t.Fatal(err)
		}
	}
	object, _, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Bucket.Put(t.Context(), w.ID().Name(), object, nil); err != nil {
		t.Fatal(err)
	}
	if r := rebuild(t, e); r.PacksAdded != 1 || r.Entries != entries || r.Bytes != int64(len(object)) {
		t.Fatalf("rebuild: %+v", r)
	}
	if r := check(t, e, true); !r.OK || r.PacksRead != 1 {
		t.Fatalf("check: %+v", r)
	}
	e.Bucket.Corrupt(w.ID().Name(), func(b []byte) []byte { b[len(b)-100_000] ^= 1; return b })
	if r := check(t, e, true); r.OK {
		t.Fatal("damage in the first part of the footer was not found")
	}
}

func TestStats(t *testing.T) {
	e, _, _ := two(t)
	r := must[wire.StagingStats](t)(collector(e).Stats(t.Context()))
	all := objects(t, e, "")
	var bytes int64
	for name, n := range all {
		if !strings.HasPrefix(name, "machines/") {
			bytes += n
		}
	}
	if r.Objects != int64(len(all)) || r.Bytes != bytes || r.Machines != 2 || r.Restpoints.Count != 4 {
		t.Errorf("%d objects with %d bytes, want %d with %d: %+v", r.Objects, r.Bytes, len(all), bytes, r)
	}
	// The first disk has 3 chunks; 1, 2 and 0 more were changed in the others, and 1 by the second machine.
	if r.Chunks.Count < 6 || r.Chunks.Bytes != r.Chunks.Count*chunk || r.ChunkStored != r.Chunks.Count*(chunk+16) {
		t.Errorf("chunks: %+v", r)
	}
	if r.Logical != 4*130*chunk || r.DedupRatio <= 1 || r.CompressionRatio >= 1 || r.CompressionRatio < 0.9 {
		t.Errorf("ratios: %+v", r)
	}
	if live := r.Packs["live"]; live.Count != int64(len(objects(t, e, "packs/"))) || r.ProvenShare <= 0 || r.ProvenShare >= 1 {
		t.Errorf("packs: %+v", r)
	}
	prove(t, e)
	if r := must[wire.StagingStats](t)(collector(e).Stats(t.Context())); r.ProvenShare != 1 {
		t.Errorf("proven share is %v", r.ProvenShare)
	}
}
