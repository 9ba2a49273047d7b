package catalog_test

import (
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

// tombstoneAll asks for a tombstone on every pack, as a collector would that found none of them needed by the roots.
func tombstoneAll(t *testing.T, e *catalogtest.Env, col *catalog.Collection) map[string]bool {
	t.Helper()
	var seqs []uint64
	for _, p := range packsIn(t, e) {
		seqs = append(seqs, p.Seq)
	}
	marked := make(map[string]bool)
	for _, p := range must[[]catalog.Pack](t)(e.Catalog.Tombstone(t.Context(), col, seqs)) {
		marked[p.ID.String()] = true
	}
	return marked
}

// TestCollectionRaces: whatever a session does while a collector marks, it never loses a pack that it was promised.
func TestCollectionRaces(t *testing.T) {
	d := disk("d", 1, 3*chunk, 0, 1)
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, begin func())
		kept bool
	}{
		{"fenced before", func(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, begin func()) {
			sent(t, a, d)
			e.Pass(time.Hour)
			e.Tick()
			begin()
		}, false},
		{"sent before", func(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, begin func()) {
			sent(t, a, d)
			begin()
		}, true},
		{"sent before, committed after", func(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, begin func()) {
			c, manifest := sent(t, a, d)
			begin()
			must[wire.Committed](t)(c.Commit(manifest))
			e.Tick()
		}, true},
		{"sent before, fenced after", func(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, begin func()) {
			sent(t, a, d)
			begin()
			e.Pass(time.Hour)
			e.Tick()
		}, true},
		{"announced before, sent after", func(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, begin func()) {
			c := open(t, a, d)
			pack := must[[]catalogtest.Pack](t)(e.MakePacks(c.Pieces))[0]
			must[[]wire.PackUpload](t)(e.Catalog.Announce(t.Context(), a.Machine.ID, c.Session.ID, []wire.PackAnnounce{pack.Announce()}))
			begin()
			if err := c.Upload(&pack); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"sent after", func(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, begin func()) {
			begin()
			sent(t, a, d)
		}, true},
		{"fenced before, offered after", func(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, begin func()) {
			sent(t, a, d)
			e.Pass(time.Hour)
			e.Tick()
			begin()
			if n := unknown(t, a, d); n != 0 {
				t.Errorf("%d unknown", n)
			}
		}, true},
		{"fenced before, offered and committed after", func(t *testing.T, e *catalogtest.Env, a *catalogtest.Agent, begin func()) {
			sent(t, a, d)
			e.Pass(time.Hour)
			e.Tick()
			begin()
			a.Replicate(d)
			e.Tick()
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := catalogtest.New(t, nil)
			var col *catalog.Collection
			tt.run(t, e, e.NewAgent("m"), func() { col = must[*catalog.Collection](t)(e.Catalog.BeginCollection(t.Context())) })
			packs := packsIn(t, e)
			if len(packs) != 1 {
				t.Fatalf("%d packs", len(packs))
			}
			if marked := tombstoneAll(t, e, col); (len(marked) == 0) != tt.kept {
				t.Errorf("%d tombstones, kept: %v", len(marked), tt.kept)
			}
		})
	}
}

// TestCollectionRoots: listed restpoints, also those that are being removed, and commits that were decided.
func TestCollectionRoots(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	r1, _ := a.Replicate(disk("d", 1, chunk, 0))
	c, manifest := sent(t, a, disk("d", 2, chunk, 0))
	e.Bucket.FailRestpoints(true)
	_, err := c.Commit(manifest)
	wantCode(t, err, wire.CodeStaging, "commit")
	col := must[*catalog.Collection](t)(e.Catalog.BeginCollection(t.Context()))
	if len(col.Roots) != 2 || col.Roots[0].ID != r1 || col.Roots[1].ID != c.Session.Restpoint || col.Roots[1].Disks[0].Root != c.Roots["d"] {
		t.Errorf("roots %+v", col.Roots)
	}
	if again := must[*catalog.Collection](t)(e.Catalog.BeginCollection(t.Context())); again.Epoch != col.Epoch+1 {
		t.Errorf("epoch %d after %d", again.Epoch, col.Epoch)
	}
}

func TestForgetPack(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d := disk("d", 1, 3*chunk, 0, 1)
	sent(t, a, d)
	p := packsIn(t, e)[0]
	wantCode(t, e.Catalog.ForgetPack(t.Context(), p.Seq), wire.CodeConflict, "a live pack")
	e.Pass(time.Hour)
	e.Tick()
	col := must[*catalog.Collection](t)(e.Catalog.BeginCollection(t.Context()))
	tombstoneAll(t, e, col)
	if marked := tombstoneAll(t, e, col); len(marked) != 0 {
		t.Error("marked twice")
	}
	for range 2 {
		if err := e.Catalog.ForgetPack(t.Context(), p.Seq); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(packsIn(t, e)); n != 0 {
		t.Errorf("%d packs are left", n)
	}
	_, err := e.Catalog.Pack(t.Context(), p.ID)
	wantCode(t, err, wire.CodeNotFound, "a forgotten pack")
	r, n := a.Replicate(d)
	if n != 3 {
		t.Errorf("sent %d pieces", n)
	}
	e.MustRestore(r, d)
}
