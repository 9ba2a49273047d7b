package catalog_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// piece makes a chunk.
func piece(e *catalogtest.Env, content []byte) catalogtest.Piece {
	return catalogtest.Piece{Kind: format.KindChunk, ID: chunker.NewHasher(e.Keys.ChunkKey()).ID(content), Content: content}
}

// patchOf makes a patch of old in which one byte is another.
func patchOf(e *catalogtest.Env, old catalogtest.Piece, at int) catalogtest.Piece {
	content := bytes.Clone(old.Content)
	content[at]++
	p := piece(e, content)
	p.Base, p.Old = old.ID, old.Content
	return p
}

func contentOf(seed uint64) []byte { return disk("d", seed, chunk, 0).Data }

// TestPatchesNeedTheirBases: CommitPack takes a patch when this machine may use its base, and it is there with less depth.
func TestPatchesNeedTheirBases(t *testing.T) {
	quarantine := func(t *testing.T, e *catalogtest.Env, p format.PackID, id string) {
		t.Helper()
		if err := e.Catalog.Quarantine(t.Context(), catalog.DefaultProject, []wire.Damage{{Pack: p.String(), ID: id}}); err != nil {
			t.Fatal(err)
		}
	}
	var deep uint8 // of the patch that is tried; 0: 1
	tests := []struct {
		name string
		base func(t *testing.T, a, other *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece)
		ok   bool
	}{
		{"uploaded in this session", func(t *testing.T, _, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			upload(t, c, base)
		}, true},
		{"nowhere", func(*testing.T, *catalogtest.Agent, *catalogtest.Agent, *catalogtest.Cycle, catalogtest.Piece) {}, false},
		{"another machine's and not proven", func(t *testing.T, _, other *catalogtest.Agent, _ *catalogtest.Cycle, base catalogtest.Piece) {
			other.Replicate(catalogtest.Disk{ID: "d", Data: base.Content})
		}, false},
		{"another machine's and proven", func(t *testing.T, a, other *catalogtest.Agent, _ *catalogtest.Cycle, base catalogtest.Piece) {
			other.Replicate(catalogtest.Disk{ID: "d", Data: base.Content})
			prove(t, a.Env)
		}, true},
		{"damaged", func(t *testing.T, a, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			quarantine(t, a.Env, upload(t, c, base)[0].ID, base.ID.String())
		}, false},
		{"in a quarantined pack", func(t *testing.T, a, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			quarantine(t, a.Env, upload(t, c, base)[0].ID, "")
		}, false},
		{"announced only", func(t *testing.T, a, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			packs := must[[]catalogtest.Pack](t)(a.Env.MakePacks([]catalogtest.Piece{base}))
			must[[]wire.PackUpload](t)(a.Env.Catalog.Announce(t.Context(), a.Machine.ID, c.Session.ID, []wire.PackAnnounce{packs[0].Announce()}))
		}, false},
		{"a patch of the same depth", func(t *testing.T, a, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			below := patchOf(a.Env, base, 3)
			upload(t, c, catalogtest.Piece{Kind: below.Kind, ID: below.ID, Content: below.Content})
			base.Base, base.Old = below.ID, below.Content
			upload(t, c, base)
		}, false},
		{"a patch of less depth", func(t *testing.T, a, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			below := patchOf(a.Env, base, 3)
			upload(t, c, catalogtest.Piece{Kind: below.Kind, ID: below.ID, Content: below.Content})
			base.Base, base.Old, base.Depth = below.ID, below.Content, 1
			upload(t, c, base)
			deep = 2
		}, true},
		{"a patch of less depth that stands on nothing", func(t *testing.T, a, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			below := patchOf(a.Env, base, 3)
			p := upload(t, c, catalogtest.Piece{Kind: below.Kind, ID: below.ID, Content: below.Content})
			base.Base, base.Old, base.Depth = below.ID, below.Content, 1
			upload(t, c, base)
			quarantine(t, a.Env, p[0].ID, below.ID.String())
			deep = 2
		}, false},
		{"a patch, and in full", func(t *testing.T, a, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			below := patchOf(a.Env, base, 3)
			upload(t, c, catalogtest.Piece{Kind: below.Kind, ID: below.ID, Content: below.Content})
			upload(t, c, base)
			base.Base, base.Old = below.ID, below.Content
			upload(t, c, base)
		}, true},
		{"of another length", func(t *testing.T, a, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			// Nobody checks yet that the content is the id's.
			upload(t, c, catalogtest.Piece{Kind: base.Kind, ID: base.ID, Content: base.Content[1:]})
		}, false},
		{"a node", func(t *testing.T, a, _ *catalogtest.Agent, c *catalogtest.Cycle, base catalogtest.Piece) {
			upload(t, c, catalogtest.Piece{Kind: format.KindNode, ID: base.ID, Content: base.Content[:100]})
		}, false},
		{"tombstoned", func(t *testing.T, a, _ *catalogtest.Agent, _ *catalogtest.Cycle, base catalogtest.Piece) {
			old := open(t, a.Env.NewAgent("c"), catalogtest.Disk{ID: "d", Data: base.Content})
			must[[]catalogtest.Piece](t)(old.Send())
			if err := a.Env.Catalog.AbortSession(t.Context(), old.Agent.Machine.ID, old.Session.ID, wire.Failure{}); err != nil {
				t.Fatal(err)
			}
			tombstoneAll(t, a.Env, must[*catalog.Collection](t)(a.Env.Catalog.BeginCollection(t.Context())))
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := catalogtest.New(t, nil)
			a, other := e.NewAgent("a"), e.NewAgent("b")
			base := piece(e, contentOf(7))
			c := open(t, a, disk("d", 1, 3*chunk, 0))
			deep = 0
			tt.base(t, a, other, c, base)
			patch := patchOf(e, base, 5000)
			patch.Depth = deep
			err := c.SendPieces([]catalogtest.Piece{patch})
			if !tt.ok {
				wantCode(t, err, wire.CodeMissing, "commit")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			known := must[wire.Bitmap](t)(e.Catalog.Offer(t.Context(), a.Machine.ID, c.Session.ID, []chunker.ID{patchOf(e, base, 5000).ID}))
			if !known.Get(0) {
				t.Error("a patch that was committed is not known")
			}
		})
	}
}

// TestPatchInItsBasesPack: the pack that is being committed is not live yet, so nothing in it is a base.
func TestPatchInItsBasesPack(t *testing.T) {
	e := catalogtest.New(t, nil)
	c := open(t, e.NewAgent("a"), disk("d", 1, 3*chunk, 0))
	base := piece(e, contentOf(7))
	wantCode(t, c.SendPieces([]catalogtest.Piece{base, patchOf(e, base, 1)}), wire.CodeMissing, "commit")
}

// TestCommitPatchesAgain: the same entries pass, other bases do not.
func TestCommitPatchesAgain(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	c := open(t, a, disk("d", 1, 3*chunk, 0))
	base, other := piece(e, contentOf(7)), piece(e, contentOf(8))
	upload(t, c, base, other)
	pack := upload(t, c, patchOf(e, base, 1))[0]
	list := must[[]format.Entry](t)(format.UnmarshalEntries(pack.Entries))
	commit := func() error {
		return e.Catalog.CommitPack(t.Context(), a.Machine.ID, c.Session.ID, pack.ID, format.MarshalEntries(list))
	}
	if err := commit(); err != nil {
		t.Errorf("again: %v", err)
	}
	list[0].Base = other.ID
	wantCode(t, commit(), wire.CodeConflict, "again with another base")
}

// TestCommitNeedsTheBase: a base that is found damaged before the session ends is missing at its commit, and what was patched is sent in full.
func TestCommitNeedsTheBase(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	a.Patches = true
	d := disk("d", 1, 3*chunk, 1)
	r1, _ := a.Replicate(d)
	pack := packsIn(t, e)[0]
	d2 := changed(d, chunk+9)
	c, manifest := sent(t, a, d2)
	base := piece(e, d.Data[chunk:2*chunk])
	if err := e.Catalog.Quarantine(t.Context(), catalog.DefaultProject, []wire.Damage{{Pack: pack.ID.String(), ID: base.ID.String()}}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Commit(manifest)
	wantCode(t, err, wire.CodeMissing, "commit")
	pieces := must[[]catalogtest.Piece](t)(c.Send())
	if len(pieces) != 1 || !slices.Equal(pieces[0].Content, d2.Data[chunk:2*chunk]) {
		t.Fatalf("%d pieces are unknown", len(pieces))
	}
	done := must[wire.Committed](t)(c.Commit(manifest))
	e.MustRestore(done.Restpoint, d2)
	if _, err := e.Restore(r1); err == nil {
		t.Error("the first one restores without its chunk")
	}
}

// TestPatchesOfOthers: what a machine may use of another's patches follows the proof of both, and the life of the base.
func TestPatchesOfOthers(t *testing.T) {
	e := catalogtest.New(t, nil)
	a, b := e.NewAgent("a"), e.NewAgent("b")
	a.Patches = true
	d := disk("d", 1, 3*chunk, 1)
	a.Replicate(d)
	prove(t, e)
	base := packsIn(t, e)[0]
	d2 := changed(d, chunk+9)
	a.Replicate(d2)
	if n := unknown(t, b, d2); n != 2 {
		t.Errorf("%d are unknown before the patch was proven, want chunk and node", n)
	}
	e.Tick()
	j := lease(t, e, "node")
	if j == nil || len(j.Packs) != 2 && len(j.Packs) != 1 || len(j.Packs[0].Contents) != 32 {
		t.Fatalf("prove job %+v", j)
	}
	// The job may read its packs and the one with the base.
	urls := must[wire.URLResponse](t)(e.Catalog.JobURLs(t.Context(), "node", j.ID, wire.URLRequest{Packs: []string{base.ID.String(), j.Packs[0].ID}}))
	if urls.URLs[0] == "" || urls.URLs[1] == "" {
		t.Errorf("URLs %q", urls.URLs)
	}
	id := piece(e, d.Data[chunk:2*chunk]).ID
	locs := must[[]wire.Location](t)(e.Catalog.JobResolve(t.Context(), "node", j.ID, []chunker.ID{id}))
	if !locs[0].Found || locs[0].Pack != base.ID {
		t.Errorf("base is at %+v", locs[0])
	}
	if err := e.Catalog.CompleteJob(t.Context(), "node", j.ID, wire.JobResult{}); err != nil {
		t.Fatal(err)
	}
	if n := unknown(t, b, d2); n != 0 {
		t.Errorf("%d are unknown after both were proven", n)
	}
	if err := e.Catalog.Quarantine(t.Context(), catalog.DefaultProject, []wire.Damage{{Pack: base.ID.String()}}); err != nil {
		t.Fatal(err)
	}
	if n := unknown(t, b, d2); n != 1 {
		t.Errorf("%d are unknown after the base was lost", n)
	}
}

// TestManyPatchesOfALostBase: what a hostile agent can make of one base bounds what its damage costs.
func TestManyPatchesOfALostBase(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	c := open(t, a, disk("d", 1, 3*chunk, 0))
	base := piece(e, contentOf(7))
	pack := upload(t, c, base)[0]
	const many = 9000
	w := must[*format.PackWriter](t)(format.NewPackWriter(e.Keys, make([]byte, 0, 4<<20)))
	for i := range many {
		if err := w.AppendPatch(chunker.ID{1, byte(i), byte(i >> 8)}, base.ID, 1, chunk, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	object, entries, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Upload(&catalogtest.Pack{ID: w.ID(), Object: object, Entries: format.MarshalEntries(entries)}); err != nil {
		t.Fatal(err)
	}
	if err := e.Catalog.Quarantine(t.Context(), catalog.DefaultProject, []wire.Damage{{Pack: pack.ID.String()}}); err != nil {
		t.Fatal(err)
	}
	lost := must[[]chunker.ID](t)(e.Catalog.LostIDs(t.Context(), catalog.DefaultProject))
	if len(lost) <= 8192 || len(lost) > 8200 {
		t.Errorf("%d lost ids, want enough to make sessions begin from nothing and not many more", len(lost))
	}
}
