package catalog_test

import (
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

func TestReplicate(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("web")
	// Two levels of nodes, a short last chunk, and a second disk of zeros.
	one := disk("a", 1, 130*chunk+1000, 0, 1, 2, 20, 64, 129, 130)
	zeros := disk("z", 0, 3*chunk)
	first, n := a.Replicate(one, zeros)
	if n != 7+3+1 {
		t.Errorf("first restpoint sent %d pieces, want 7 chunks and 4 nodes", n)
	}
	two := changed(one, 20*chunk+5)
	second, n := a.Replicate(two, zeros)
	if n != 1+2 {
		t.Errorf("second restpoint sent %d pieces for one changed chunk, want it and 2 nodes", n)
	}
	third, n := a.Replicate(two, zeros)
	if n != 0 {
		t.Errorf("restpoint of an unchanged disk sent %d pieces", n)
	}
	e.MustRestore(first, one, zeros)
	e.MustRestore(second, two, zeros)
	e.MustRestore(third, two, zeros)
	checkChain(t, e, a.Machine.ID)

	a.ForgetBase()
	if _, n := a.Replicate(two, zeros); n != 0 {
		t.Errorf("an agent that lost its base sent %d pieces again", n)
	}
	diff := must[[]catalog.DiskDiff](t)(e.Catalog.DiffRestpoints(t.Context(), first, "web/latest"))
	if len(diff) != 2 || diff[0].Chunks != 1 || diff[0].Changed != chunk || diff[1].Change != "same" {
		t.Errorf("difference of the first and the last restpoint: %+v", diff)
	}
}

func TestDiskGrowsAndShrinks(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	small := disk("d", 1, 60*chunk, 0, 3, 59)
	large := disk("d", 2, 70*chunk, 1, 69)
	copy(large.Data, small.Data[:chunk])
	r1, _ := a.Replicate(small)
	r2, _ := a.Replicate(large)
	r3, _ := a.Replicate(small, disk("new", 3, chunk, 0))
	e.MustRestore(r1, small)
	e.MustRestore(r2, large)
	e.MustRestore(r3, small, disk("new", 3, chunk, 0))
}

// calls are all that an agent can ask of a session.
func calls(t *testing.T, c *catalogtest.Cycle, pack *catalogtest.Pack, manifest []byte) map[string]error {
	cat, m, s := c.Agent.Env.Catalog, c.Agent.Machine.ID, c.Session.ID
	errs := make(map[string]error)
	_, errs["renew"] = cat.RenewSession(t.Context(), m, s, wire.Progress{})
	_, errs["offer"] = cat.Offer(t.Context(), m, s, []chunker.ID{{1}})
	_, errs["announce"] = cat.Announce(t.Context(), m, s, []wire.PackAnnounce{pack.Announce()})
	errs["commit pack"] = cat.CommitPack(t.Context(), m, s, pack.ID, pack.Entries)
	_, errs["commit"] = cat.CommitSession(t.Context(), m, s, manifest)
	return errs
}

func TestFencing(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(e *catalogtest.Env, c *catalogtest.Cycle)
	}{
		{"lease ran out", func(e *catalogtest.Env, c *catalogtest.Cycle) { e.Pass(91 * time.Second) }},
		{"lease ran out and tick", func(e *catalogtest.Env, c *catalogtest.Cycle) { e.Pass(91 * time.Second); e.Tick() }},
		{"lease ran out and restart", func(e *catalogtest.Env, c *catalogtest.Cycle) { e.Pass(91 * time.Second); e.Tick(); e.Restart() }},
		{"another session", func(e *catalogtest.Env, c *catalogtest.Cycle) { open(t, c.Agent, disk("d", 1, chunk, 0)) }},
		{"abort", func(e *catalogtest.Env, c *catalogtest.Cycle) {
			for range 2 { // it is idempotent
				if err := e.Catalog.AbortSession(t.Context(), c.Agent.Machine.ID, c.Session.ID, wire.Failure{Code: "read-error"}); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := catalogtest.New(t, nil)
			a := e.NewAgent("m")
			c, manifest := sent(t, a, disk("d", 1, 4*chunk, 0, 1))
			pack := must[[]catalogtest.Pack](t)(e.MakePacks(c.Pieces))
			tt.end(e, c)
			for doing, err := range calls(t, c, &pack[0], manifest) {
				wantCode(t, err, wire.CodeFenced, doing)
			}
			if rs := must[[]catalog.Restpoint](t)(e.Catalog.Restpoints(t.Context(), "m")); len(rs) != 0 {
				t.Errorf("a fenced session listed %d restpoints", len(rs))
			}
			// What it sent is not lost to the machine.
			if r, n := a.Replicate(disk("d", 1, 4*chunk, 0, 1)); n != 0 {
				t.Errorf("the next session sent %d pieces again", n)
			} else {
				e.MustRestore(r, disk("d", 1, 4*chunk, 0, 1))
			}
		})
	}
}

func TestForeignSession(t *testing.T) {
	e := catalogtest.New(t, nil)
	c, manifest := sent(t, e.NewAgent("m"), disk("d", 1, chunk, 0))
	pack := must[[]catalogtest.Pack](t)(e.MakePacks(c.Pieces))
	c.Agent = e.NewAgent("thief")
	for doing, err := range calls(t, c, &pack[0], manifest) {
		wantCode(t, err, wire.CodeNotFound, doing)
	}
}

func TestResume(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d := disk("d", 1, 8*chunk, 0, 1, 2, 3)
	c, _ := sent(t, a, d)
	e.Pass(80 * time.Second)
	e.Restart()
	again := must[*catalogtest.Cycle](t)(a.Open(c.Session.ID, d))
	if again.Session.ID != c.Session.ID || again.Session.Restpoint != c.Session.Restpoint {
		t.Fatalf("resume gave session %s, want %s", again.Session.ID, c.Session.ID)
	}
	if n := must[[]catalogtest.Piece](t)(again.Send()); len(n) != 0 {
		t.Errorf("a resumed session sent %d pieces again", len(n))
	}
	// A disk that changed its size can not be resumed.
	other := must[*catalogtest.Cycle](t)(a.Open(c.Session.ID, disk("d", 1, 9*chunk, 0)))
	if other.Session.ID == c.Session.ID {
		t.Error("a session was resumed for a disk of another size")
	}
	manifest := must[[]byte](t)(again.Manifest())
	_, err := again.Commit(manifest)
	wantCode(t, err, wire.CodeFenced, "commit of a session that was replaced")
}

func TestParent(t *testing.T) {
	e := catalogtest.New(t, nil)
	a, b := e.NewAgent("a"), e.NewAgent("b")
	d := disk("d", 1, 2*chunk, 0, 1)
	first, _ := a.Replicate(d)
	root := must[catalog.Restpoint](t)(e.Catalog.Restpoint(t.Context(), first)).Disks[0].Root.String()
	ok := wire.SessionDisk{ID: "d", Size: 2 * chunk, ChunkSize: chunk, BaseRoot: root}
	with := func(change func(*wire.SessionDisk)) []wire.SessionDisk {
		sd := ok
		change(&sd)
		return []wire.SessionDisk{sd}
	}
	for _, tt := range []struct {
		name    string
		machine string
		parent  string
		disks   []wire.SessionDisk
		want    string
	}{
		{"right", a.Machine.ID, first, []wire.SessionDisk{ok}, first},
		{"none", a.Machine.ID, "", []wire.SessionDisk{ok}, ""},
		{"unknown", a.Machine.ID, "nonesuch", []wire.SessionDisk{ok}, ""},
		{"another machine's", b.Machine.ID, first, []wire.SessionDisk{ok}, ""},
		{"wrong root", a.Machine.ID, first, with(func(d *wire.SessionDisk) { d.BaseRoot = chunker.ID{1}.String() }), ""},
		{"base root of a disk it has not", a.Machine.ID, first, with(func(d *wire.SessionDisk) { d.ID = "e" }), ""},
		{"other chunk size", a.Machine.ID, first, with(func(d *wire.SessionDisk) { d.ChunkSize *= 2 }), ""},
		{"a new disk", a.Machine.ID, first, []wire.SessionDisk{ok, {ID: "e", Size: 5, ChunkSize: chunk}}, first},
		{"the disk grew", a.Machine.ID, first, with(func(d *wire.SessionDisk) { d.Size += chunk }), first},
	} {
		s, err := e.Catalog.OpenSession(t.Context(), tt.machine, wire.SessionRequest{Parent: tt.parent, Disks: tt.disks})
		if err != nil || s.Parent != tt.want {
			t.Errorf("%s: parent %q, %v; want %q", tt.name, s.Parent, err, tt.want)
		}
	}
	for name, disks := range map[string][]wire.SessionDisk{
		"no disks":   nil,
		"twice":      {ok, ok},
		"no id":      with(func(d *wire.SessionDisk) { d.ID = "" }),
		"chunk size": with(func(d *wire.SessionDisk) { d.ChunkSize = 1000 }),
		"size":       with(func(d *wire.SessionDisk) { d.Size = -1 }),
	} {
		_, err := e.Catalog.OpenSession(t.Context(), a.Machine.ID, wire.SessionRequest{Disks: disks})
		wantCode(t, err, wire.CodeBadRequest, name)
	}
}

// TestClockJumps: leases are measured with the monotonic clock alone.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		e := catalogtest.New(t, nil)
		a := e.NewAgent("m")
		d := disk("d", 1, chunk, 0)
		c, manifest := sent(t, a, d)
		for range 5 {
			e.Clock.Advance(jump)
			e.Mono.Advance(60 * time.Second)
			e.Tick()
			if _, err := e.Catalog.RenewSession(t.Context(), a.Machine.ID, c.Session.ID, wire.Progress{}); err != nil {
				t.Fatalf("renew after the clock jumped by %v: %v", jump, err)
			}
		}
		e.Clock.Advance(jump)
		e.Restart()
		e.Clock.Advance(jump)
		e.Mono.Advance(80 * time.Second)
		e.Tick()
		if _, err := c.Commit(manifest); err != nil {
			t.Errorf("commit after a restart and a jump by %v: %v", jump, err)
		}
		// And a clock that stands still keeps nobody alive.
		c = open(t, a, d)
		e.Mono.Advance(91 * time.Second)
		e.Tick()
		_, err := e.Catalog.RenewSession(t.Context(), a.Machine.ID, c.Session.ID, wire.Progress{})
		wantCode(t, err, wire.CodeFenced, "renew after 91 seconds in which the clock stood still")
	}
}
