package gc_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

func TestCollectNothing(t *testing.T) {
	e := catalogtest.New(t, nil)
	if r := collect(t, e, nil); r.PacksKept+r.PacksDeleted+r.BytesFreed != 0 {
		t.Fatalf("an empty bucket gave %+v", r)
	}
	a := e.NewAgent("a")
	d := disk("d", 1, 200, 0, 70, 150)
	p, _ := a.Replicate(d)
	later(e)
	before := objects(t, e, "")
	r := collect(t, e, nil)
	if !maps.Equal(before, objects(t, e, "")) || r.BytesFreed != 0 || r.PacksDeleted != 0 {
		t.Fatalf("a restpoint's objects were deleted: %+v", r)
	}
	if r.Restpoints != 1 || r.Nodes != 4 || r.PacksKept == 0 || r.BytesLive == 0 {
		t.Fatalf("got %+v, want one restpoint with 4 nodes", r)
	}
	e.MustRestore(p, d)
}

func TestCollectRemoved(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	first := disk("d", 1, 200, 0, 70, 150)
	p1, _ := a.Replicate(first)
	shared := objects(t, e, "packs/")
	second := changed(first, 70)
	p2, _ := a.Replicate(second)
	both := objects(t, e, "packs/")
	third := changed(second, 150)
	p3, _ := a.Replicate(third)
	later(e)

	// The restpoint in the middle goes; both others stay whole.
	remove(t, e, p2)
	r := collect(t, e, nil)
	e.MustRestore(p1, first)
	e.MustRestore(p3, third)
	if r.BytesDead == 0 {
		t.Errorf("the pack of the second restpoint has a root node that is dead, got %+v", r)
	}

	remove(t, e, p3)
	r = collect(t, e, nil)
	e.MustRestore(p1, first)
	if left := objects(t, e, "packs/"); !maps.Equal(left, shared) {
		t.Errorf("%d packs left, want the %d of the first restpoint", len(left), len(shared))
	}
	if r.PacksDeleted == 0 || r.BytesFreed == 0 || r.PacksWaiting != 0 {
		t.Errorf("got %+v, want deletions", r)
	}
	remove(t, e, p1)
	collect(t, e, nil)
	if left := objects(t, e, ""); len(left) != 0 {
		t.Errorf("left in the bucket: %v", slices.Collect(maps.Keys(left)))
	}
	s := must[wire.StagingStats](t)(collector(e).Stats(t.Context()))
	if s.Objects != 1 || s.Chunks.Count+s.Nodes.Count+s.Copies.Count != 0 || len(both) == 0 {
		t.Errorf("left in the database: %+v", s)
	}
}

func TestCollectSparesSessions(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	d := disk("d", 1, 4, 0, 1, 2, 3)
	c := must[*catalogtest.Cycle](t)(a.Open("", d))
	must[[]catalogtest.Piece](t)(c.Send())
	r := collect(t, e, nil)
	if r.PacksPinned == 0 || r.PacksPinned != r.PacksKept || r.BytesFreed != 0 {
		t.Fatalf("packs of a live session: %+v", r)
	}
	manifest := must[[]byte](t)(c.Manifest())
	p := must[wire.Committed](t)(c.Commit(manifest)).Restpoint
	collect(t, e, nil)
	e.MustRestore(p, d)

	// A session holds its parent, though that is removed.
	next := changed(d, 2)
	c = must[*catalogtest.Cycle](t)(a.Open("", next))
	remove(t, e, p)
	collect(t, e, nil)
	must[[]catalogtest.Piece](t)(c.Send())
	p = must[wire.Committed](t)(c.Commit(must[[]byte](t)(c.Manifest()))).Restpoint
	e.Tick()
	collect(t, e, nil)
	e.MustRestore(p, next)
}

func TestCollectSparesReaders(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	d := disk("d", 1, 4, 0, 1, 2, 3)
	p, _ := a.Replicate(d)
	j, err := e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: p})
	if err != nil {
		t.Fatal(err)
	}
	remove(t, e, p)
	later(e)
	before := objects(t, e, "packs/")
	collect(t, e, nil)
	if !maps.Equal(before, objects(t, e, "packs/")) {
		t.Fatal("what a job reads was deleted")
	}
	if err := e.Catalog.CancelJob(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	e.Tick()
	collect(t, e, nil)
	if left := objects(t, e, ""); len(left) != 0 {
		t.Errorf("left in the bucket: %v", slices.Collect(maps.Keys(left)))
	}
}

// A pack that was announced and never committed may be put as long as its URL is good, and also after its object was deleted.
func TestCollectAnnounced(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	c := must[*catalogtest.Cycle](t)(a.Open("", disk("d", 1, 4, 0, 1)))
	pack := must[[]catalogtest.Pack](t)(e.MakePacks(c.Pieces))[0]
	must[[]wire.PackUpload](t)(e.Catalog.Announce(t.Context(), a.Machine.ID, c.Session.ID, []wire.PackAnnounce{pack.Announce()}))
	put := func() {
		t.Helper()
		if err := e.Bucket.Put(t.Context(), pack.ID.Name(), pack.Object, &staging.PutOptions{IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	if err := e.Catalog.AbortSession(t.Context(), a.Machine.ID, c.Session.ID, wire.Failure{}); err != nil {
		t.Fatal(err)
	}
	r := collect(t, e, nil)
	if r.PacksWaiting != 1 || r.PacksDeleted != 0 || r.BytesFreed != int64(len(pack.Object)) {
		t.Fatalf("while the URL is good: %+v", r)
	}
	put()
	later(e)
	r = collect(t, e, nil)
	if r.PacksWaiting != 0 || r.PacksDeleted != 1 || r.BytesFreed != int64(len(pack.Object)) {
		t.Fatalf("after that: %+v", r)
	}
	if left := objects(t, e, ""); len(left) != 0 {
		t.Errorf("left in the bucket: %v", slices.Collect(maps.Keys(left)))
	}
}

func TestCollectKeepsUnfinished(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	d := disk("d", 1, 4, 0, 1, 2, 3)
	c := must[*catalogtest.Cycle](t)(a.Open("", d))
	must[[]catalogtest.Piece](t)(c.Send())
	later(e) // the agent has died
	keep := &gc.Options{KeepUnfinished: true}
	if r := collect(t, e, keep); r.PacksUnfinished == 0 || r.PacksDeleted != 0 {
		t.Fatalf("an interrupted first replication: %+v", r)
	}
	p, sent := a.Replicate(d)
	if sent != 0 {
		t.Errorf("%d pieces were sent again", sent)
	}
	e.MustRestore(p, d)

	// What the restpoint did not use goes.
	e.Pass(1)
	a.ForgetBase()
	c = must[*catalogtest.Cycle](t)(a.Open("", disk("d", 2, 4, 0, 1, 2, 3)))
	must[[]catalogtest.Piece](t)(c.Send())
	later(e)
	if r := collect(t, e, keep); r.PacksUnfinished == 0 || r.PacksDeleted != 0 {
		t.Fatalf("an interrupted second one: %+v", r)
	}
	e.Pass(1)
	p, _ = a.Replicate(d)
	later(e)
	if r := collect(t, e, keep); r.PacksUnfinished != 0 || r.PacksDeleted == 0 {
		t.Fatalf("after a restpoint: %+v", r)
	}
	e.MustRestore(p, d)
}

func TestCollectAborts(t *testing.T) {
	spoil := map[string]func(t *testing.T, e *catalogtest.Env, packs []string){
		"node damaged": func(t *testing.T, e *catalogtest.Env, packs []string) {
			for _, name := range packs {
				e.Bucket.Corrupt(name, func(b []byte) []byte {
					for i := 48; i < len(b)-16; i += 97 {
						b[i] ^= 1
					}
					return b
				})
			}
		},
		"pack cut short": func(t *testing.T, e *catalogtest.Env, packs []string) {
			for _, name := range packs {
				e.Bucket.Corrupt(name, func(b []byte) []byte { return b[:100] })
			}
		},
		"pack gone": func(t *testing.T, e *catalogtest.Env, packs []string) {
			for _, name := range packs {
				e.Bucket.Corrupt(name, func([]byte) []byte { return nil })
			}
		},
		"pack in quarantine": func(t *testing.T, e *catalogtest.Env, packs []string) {
			for _, name := range packs {
				dmg := wire.Damage{Pack: name[strings.LastIndexByte(name, '/')+1:], Reason: "test"}
				if err := e.Catalog.Quarantine(t.Context(), "default", []wire.Damage{dmg}); err != nil {
					t.Fatal(err)
				}
			}
		},
		"restpoint unknown": func(t *testing.T, e *catalogtest.Env, packs []string) {
			if err := e.Bucket.Put(t.Context(), "restpoints/m-1/r-1", []byte("from a backup"), nil); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, fn := range spoil {
		t.Run(name, func(t *testing.T) {
			e := catalogtest.New(t, nil)
			a := e.NewAgent("a")
			p, _ := a.Replicate(disk("d", 1, 200, 0, 70, 150))
			live := slices.Sorted(maps.Keys(objects(t, e, "packs/")))
			gone, _ := e.NewAgent("b").Replicate(disk("d", 2, 4, 0, 1))
			remove(t, e, gone)
			later(e)
			fn(t, e, live)
			before := objects(t, e, "")
			r, err := collector(e).Collect(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Aborted || r.Count == 0 || r.PacksDeleted+r.BytesFreed != 0 {
				t.Fatalf("got %+v, want an aborted collection", r)
			}
			if !maps.Equal(before, objects(t, e, "")) {
				t.Fatal("something was deleted")
			}
			if r.List[0].Next == "" || !strings.HasPrefix(r.List[0].Object, "restpoints/") {
				t.Errorf("problem %+v does not name the restpoint and what to do", r.List[0])
			}
			if name == "restpoint unknown" {
				return
			}
			// Without the damaged restpoint all goes.
			remove(t, e, p)
			collect(t, e, nil)
			if left := objects(t, e, ""); len(left) != 0 {
				t.Errorf("left in the bucket: %v", slices.Collect(maps.Keys(left)))
			}
		})
	}
}

// A staging server that does not answer is no damage.
func TestCollectWhileStagingIsDown(t *testing.T) {
	e := catalogtest.New(t, nil)
	e.NewAgent("a").Replicate(disk("d", 1, 200, 0, 70))
	e.Bucket.Fail(func(op, _ string) (bool, error) {
		if op == "get" {
			return true, staging.ErrTemporary
		}
		return false, nil
	})
	r, err := collector(e).Collect(t.Context(), nil)
	if !errors.Is(err, staging.ErrTemporary) || r.Aborted {
		t.Fatalf("got %v, %+v", err, r)
	}
}

// Damaged chunks stay, and are asked for, until a good copy is there that a node has proven; then they go.
func TestCollectQuarantined(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	d := disk("d", 1, 4, 0, 1, 2, 3)
	c := must[*catalogtest.Cycle](t)(a.Open("", d))
	var data, nodes []catalogtest.Piece
	for _, p := range c.Pieces {
		if p.Kind == format.KindChunk {
			data = append(data, p)
		} else {
			nodes = append(nodes, p)
		}
	}
	for _, pieces := range [][]catalogtest.Piece{data, nodes} {
		for _, p := range must[[]catalogtest.Pack](t)(e.MakePacks(pieces)) {
			if err := c.Upload(&p); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := must[wire.Committed](t)(c.Commit(must[[]byte](t)(c.Manifest()))).Restpoint
	prove(t, e)
	loc := must[[]wire.Location](t)(e.Catalog.Resolve(t.Context(), "default", []chunker.ID{data[0].ID}))
	if err := e.Catalog.Quarantine(t.Context(), "default", []wire.Damage{{Pack: loc[0].Pack.String(), Reason: "test"}}); err != nil {
		t.Fatal(err)
	}
	later(e)
	if r := collect(t, e, nil); r.PacksQuarantined != 1 || r.PacksDeleted != 0 || r.LostForgotten != 0 {
		t.Fatalf("damaged and needed: %+v", r)
	}
	p2, sent := a.Replicate(d)
	if sent != len(data) {
		t.Fatalf("%d pieces sent again, want %d", sent, len(data))
	}
	later(e)
	if r := collect(t, e, nil); r.PacksQuarantined != 1 || r.PacksDeleted != 0 {
		t.Fatalf("sent again, not proven: %+v", r)
	}
	prove(t, e)
	if r := collect(t, e, nil); r.PacksQuarantined != 0 || r.PacksDeleted != 1 {
		t.Fatalf("sent again and proven: %+v", r)
	}
	e.MustRestore(p, d)
	e.MustRestore(p2, d)
}

// Lost ids that nothing needs any more are forgotten.
func TestCollectForgetsLost(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	p, _ := a.Replicate(disk("d", 1, 4, 0, 1))
	for name := range objects(t, e, "packs/") {
		dmg := wire.Damage{Pack: name[strings.LastIndexByte(name, '/')+1:], Reason: "test"}
		if err := e.Catalog.Quarantine(t.Context(), "default", []wire.Damage{dmg}); err != nil {
			t.Fatal(err)
		}
	}
	remove(t, e, p)
	if r := collect(t, e, nil); r.LostForgotten != 3 {
		t.Fatalf("%d lost ids were forgotten, want 2 chunks and a node", r.LostForgotten)
	}
	if ids := must[[]chunker.ID](t)(e.Catalog.LostIDs(t.Context(), "default")); len(ids) != 0 {
		t.Fatalf("%d lost ids are left", len(ids))
	}
}

// A pack that a session was offered and did not use may be collected before the session was cleaned up.
func TestCollectBeforeCleanUp(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	old := disk("d", 1, 4, 0, 1)
	gone, _ := a.Replicate(old)
	a.ForgetBase()
	d := disk("d", 2, 4, 0, 1)
	p, _ := a.Replicate(d)
	remove(t, e, gone)
	later(e)

	a.ForgetBase()
	offered := must[*catalogtest.Cycle](t)(a.Open("", old))
	must[[]catalogtest.Piece](t)(offered.Unknown()) // pins what the restpoint that is gone had
	c := must[*catalogtest.Cycle](t)(a.Open(offered.Session.ID, d))
	if c.Session.ID != offered.Session.ID {
		t.Fatal("the session was not resumed")
	}
	must[[]catalogtest.Piece](t)(c.Send())
	must[wire.Committed](t)(c.Commit(must[[]byte](t)(c.Manifest())))
	if r := collect(t, e, nil); r.PacksDeleted == 0 {
		t.Fatalf("nothing was collected: %+v", r)
	}
	e.Tick()
	e.MustRestore(p, d)
}
