package gc_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// chain is a machine with a restpoint in full and two after it, of which each has chunks 0 and 70 as patches of the first.
type chain struct {
	*catalogtest.Env
	agent *catalogtest.Agent
	disks []catalogtest.Disk
	ids   []string // of the restpoints
	packs []string // objects that came with each
}

func newChain(t testing.TB) *chain {
	t.Helper()
	e := catalogtest.New(t, nil)
	c := &chain{Env: e, agent: e.NewAgent("a")}
	c.agent.Patches = true
	d := disk("d", 1, 100, 0, 70) // what changes: later restpoints share nothing but bases
	seen := map[string]int64{}
	for range 3 {
		id, _ := c.agent.Replicate(d)
		c.ids, c.disks = append(c.ids, id), append(c.disks, d)
		now := objects(t, e, "packs/")
		for name := range seen {
			delete(now, name)
		}
		if len(now) != 1 {
			t.Fatalf("%d packs for one restpoint", len(now))
		}
		c.packs = append(c.packs, slices.Collect(maps.Keys(now))...)
		seen = objects(t, e, "packs/")
		d = changed(d, 0, 70)
	}
	if n := len(c.patches(t)); n != 4 {
		t.Fatalf("%d entries are patches, want 4", n)
	}
	return c
}

// patches lists the entries of the index that are.
func (c *chain) patches(t testing.TB) (all []catalog.Place) {
	t.Helper()
	_, err := c.Catalog.EachEntry(t.Context(), catalog.DefaultProject, nil, 1<<20, func(p *catalog.Place) {
		if p.Entry.IsPatch() {
			all = append(all, *p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (c *chain) has(t testing.TB, object string) bool {
	t.Helper()
	_, ok := objects(t, c.Env, "packs/")[object]
	return ok
}

// TestCollectKeepsBases: a base stays as long as a patch of it is needed, also when no restpoint names it, and not longer.
func TestCollectKeepsBases(t *testing.T) {
	c := newChain(t)
	publish(t, c.Env)
	for i, removed := range []int{0, 1} {
		remove(t, c.Env, c.ids[removed])
		later(c.Env)
		r := collect(t, c.Env, nil)
		if !c.has(t, c.packs[0]) {
			t.Fatalf("the pack of the bases was deleted: %+v", r)
		}
		for j := i + 1; j < 3; j++ {
			c.MustRestore(c.ids[j], c.disks[j])
		}
		if k := check(t, c.Env, true); !k.OK {
			t.Errorf("check: %+v", k)
		}
	}
	if c.has(t, c.packs[1]) {
		t.Error("the pack of the patches that nothing needs is still there")
	}
	s := must[wire.StagingStats](t)(collector(c.Env).Stats(t.Context()))
	if s.Patches.Count != 2 || s.Patches.Bytes == 0 || s.Patches.Bytes > 4*chunker.BlockSize {
		t.Errorf("patches: %+v", s.Patches)
	}
	remove(t, c.Env, c.ids[2])
	later(c.Env)
	collect(t, c.Env, nil)
	if left := objects(t, c.Env, "packs/"); len(left) != 0 {
		t.Errorf("left in the bucket: %v", slices.Collect(maps.Keys(left)))
	}
}

// TestCollectKeepsWhatPatchesStandOn: as long as a patch is needed, so is each one below it.
func TestCollectKeepsWhatPatchesStandOn(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	a.Patches, a.Deep = true, true
	d := disk("d", 1, 100, 0, 70)
	const rounds = 1 + format.MaxDepth + 3 // the last has depth 2
	var ids []string
	for range rounds {
		d = changed(d, 0, 70)
		id, _ := a.Replicate(d)
		ids = append(ids, id)
	}
	publish(t, e)
	for _, id := range ids[:rounds-1] {
		remove(t, e, id)
	}
	later(e)
	r := collect(t, e, nil)
	if left := objects(t, e, "packs/"); len(left) != 3 {
		t.Errorf("%d packs are left: %+v", len(left), r)
	}
	e.MustRestore(ids[rounds-1], d)
	if k := check(t, e, true); !k.OK {
		t.Errorf("check: %+v", k)
	}
	deepest := 0
	_, err := e.Catalog.EachEntry(t.Context(), catalog.DefaultProject, nil, 1<<20, func(p *catalog.Place) {
		deepest = max(deepest, int(p.Entry.Depth))
	})
	if err != nil || deepest != 2 {
		t.Errorf("the deepest patch that is left has depth %d, %v", deepest, err)
	}
}

// TestCollectSparesBasesOfSessions: the base of what a session sent or was told is pinned like that itself.
func TestCollectSparesBasesOfSessions(t *testing.T) {
	t.Run("sent", func(t *testing.T) {
		c := newChain(t)
		c.agent.ForgetBase()
		d := changed(c.disks[2], 0, 70)
		cycle := must[*catalogtest.Cycle](t)(c.agent.Open("", d))
		must[[]catalogtest.Piece](t)(cycle.Send())
		for _, id := range c.ids {
			remove(t, c.Env, id)
		}
		c.Tick()
		collect(t, c.Env, nil)
		done := must[wire.Committed](t)(cycle.Commit(must[[]byte](t)(cycle.Manifest())))
		later(c.Env)
		collect(t, c.Env, nil)
		c.MustRestore(done.Restpoint, d)
	})
	t.Run("offered to another machine", func(t *testing.T) {
		c := newChain(t)
		b := c.NewAgent("b")
		before := must[*catalogtest.Cycle](t)(b.Open("", c.disks[2]))
		if n := len(must[[]catalogtest.Piece](t)(before.Unknown())); n != len(before.Pieces) {
			t.Fatalf("%d of %d are unknown before anything was proven", n, len(before.Pieces))
		}
		prove(t, c.Env)
		cycle := must[*catalogtest.Cycle](t)(b.Open("", c.disks[2]))
		if sent := must[[]catalogtest.Piece](t)(cycle.Send()); len(sent) != 0 {
			t.Fatalf("sent %d pieces that are proven", len(sent))
		}
		for _, id := range c.ids {
			remove(t, c.Env, id)
		}
		c.Tick()
		collect(t, c.Env, nil)
		done := must[wire.Committed](t)(cycle.Commit(must[[]byte](t)(cycle.Manifest())))
		later(c.Env)
		collect(t, c.Env, nil)
		c.MustRestore(done.Restpoint, c.disks[2])
		if !c.has(t, c.packs[0]) || c.has(t, c.packs[1]) {
			t.Errorf("bases kept %t, dead patches kept %t", c.has(t, c.packs[0]), c.has(t, c.packs[1]))
		}
	})
}

// TestDeadPatch: a patch that nothing needs may outlive its base in a pack that is kept. It is not known any more, and does not harm what is sent anew.
func TestDeadPatch(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	a.Patches = true
	first := disk("d", 1, 5, 0)
	r1, _ := a.Replicate(first)
	second := changed(first, 0)
	r2 := disk("d", 2, 5, 3)
	copy(second.Data[3*chunk:4*chunk], r2.Data[3*chunk:]) // chunk 3 is new, in full, and keeps the pack of the patch
	p2, _ := a.Replicate(second)
	third := changed(second)
	clear(third.Data[:chunk])
	p3, _ := a.Replicate(third)
	remove(t, e, r1)
	remove(t, e, p2)
	later(e)
	if r := collect(t, e, nil); r.PacksDeleted == 0 {
		t.Fatalf("the base is still there: %+v", r)
	}
	e.MustRestore(p3, third)
	publish(t, e)
	if k := check(t, e, true); !k.OK {
		t.Errorf("check: %+v", k)
	}
	a.ForgetFull()
	again, sent := a.Replicate(second)
	if sent == 0 {
		t.Error("a patch without a base was known")
	}
	e.MustRestore(again, second)
	later(e)
	collect(t, e, nil)
	e.MustRestore(again, second)
}

// TestQuarantineOfABase: its patches are lost with it, check names both, and the agent heals them.
func TestQuarantineOfABase(t *testing.T) {
	c := newChain(t)
	prove(t, c.Env)
	base := c.patches(t)[0].Entry.Base
	var of []string
	for _, p := range c.patches(t) {
		if p.Entry.Base == base {
			of = append(of, p.Entry.ID.String())
		}
	}
	pack := strings.TrimPrefix(c.packs[0][len("packs/"):], c.packs[0][len("packs/"):][:3])
	if err := c.Catalog.Quarantine(t.Context(), catalog.DefaultProject, []wire.Damage{{Pack: pack, ID: base.String(), Reason: "test"}}); err != nil {
		t.Fatal(err)
	}
	lost := must[[]chunker.ID](t)(c.Catalog.LostIDs(t.Context(), catalog.DefaultProject))
	if len(lost) != 3 || len(of) != 2 || !slices.Contains(lost, base) {
		t.Fatalf("lost %v, want %s and %v", lost, base, of)
	}
	k := check(t, c.Env, false)
	if k.OK || k.RestpointsBroken != 3 || !slices.ContainsFunc(k.List, func(p gc.Problem) bool {
		return strings.Contains(p.Message, base.String()) && strings.Contains(p.Message, of[1])
	}) {
		t.Errorf("check: %+v", k)
	}
	collect(t, c.Env, nil)
	if !c.has(t, c.packs[0]) {
		t.Error("the damaged base was deleted although there is no other copy")
	}
	// The agent has the content of the newest restpoint; that becomes whole, and is proven.
	id, _ := c.agent.Replicate(c.disks[2])
	c.MustRestore(id, c.disks[2])
	c.MustRestore(c.ids[2], c.disks[2])
	prove(t, c.Env)
	if lost = must[[]chunker.ID](t)(c.Catalog.LostIDs(t.Context(), catalog.DefaultProject)); len(lost) != 2 {
		t.Errorf("lost %v after the newest was healed", lost)
	}
	// Somebody has the base: everything is whole again.
	b := c.NewAgent("b")
	b.Replicate(c.disks[0])
	prove(t, c.Env)
	publish(t, c.Env)
	if lost = must[[]chunker.ID](t)(c.Catalog.LostIDs(t.Context(), catalog.DefaultProject)); len(lost) != 0 {
		t.Errorf("lost %v after the base was sent again", lost)
	}
	for i := range c.ids {
		c.MustRestore(c.ids[i], c.disks[i])
	}
	if k := check(t, c.Env, true); !k.OK {
		t.Errorf("check: %+v", k)
	}
}

// TestRebuildPatches: the index comes back from footers alone, bases included.
func TestRebuildPatches(t *testing.T) {
	c := newChain(t)
	remove(t, c.Env, c.ids[0])
	later(c.Env)
	collect(t, c.Env, nil)
	publish(t, c.Env)
	e := lose(t, c.Env)
	rebuild(t, e)
	again := &chain{Env: e, packs: c.packs}
	if n := len(again.patches(t)); n != 4 {
		t.Errorf("%d patches came back", n)
	}
	for i := 1; i < 3; i++ {
		e.MustRestore(c.ids[i], c.disks[i])
	}
	prove(t, e)
	if k := check(t, e, true); !k.OK {
		t.Errorf("check: %+v", k)
	}
	later(e)
	collect(t, e, nil)
	for i := 1; i < 3; i++ {
		e.MustRestore(c.ids[i], c.disks[i])
	}
	a := moved(c.agent, e)
	if cycle := must[*catalogtest.Cycle](t)(a.Open("", c.disks[2])); cycle.Session.Parent != c.ids[2] {
		t.Errorf("parent %q", cycle.Session.Parent)
	}
}

// TestRebuildWithoutABase: a restpoint whose patch has no base is not listed.
func TestRebuildWithoutABase(t *testing.T) {
	c := newChain(t)
	publish(t, c.Env)
	c.Bucket.Corrupt(c.packs[0], func([]byte) []byte { return nil })
	e := lose(t, c.Env)
	r := must[gc.RebuildReport](t)(collector(e).Rebuild(t.Context(), nil))
	if r.OK || r.RestpointsAdded != 0 {
		t.Errorf("got %+v", r)
	}
}

// TestFullIsPreferred: of a patch and a full copy, whoever sent them.
func TestFullIsPreferred(t *testing.T) {
	c := newChain(t)
	b := c.NewAgent("b")
	b.Replicate(c.disks[2])
	prove(t, c.Env)
	p := c.patches(t)
	ids := make([]chunker.ID, len(p))
	for i := range p {
		ids[i] = p[i].Entry.ID
	}
	full := 0
	for i, l := range must[[]wire.Location](t)(c.Catalog.ResolveFor(t.Context(), catalog.DefaultProject, c.agent.Machine.ID, ids)) {
		if !l.Found || l.Entry.Kind != format.KindChunk {
			t.Errorf("patch %d is at %+v", i, l)
		}
		if !l.Entry.IsPatch() {
			full++
		}
	}
	if full != 2 {
		t.Errorf("%d of 4 are given in full, want those 2 that are there so", full)
	}
}
