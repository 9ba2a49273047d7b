package gc_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// lose makes a world with e's bucket and keys and an empty database.
func lose(t testing.TB, e *catalogtest.Env) *catalogtest.Env {
	t.Helper()
	n := catalogtest.New(t, nil)
	n.Bucket, n.Keys, n.MasterKey = e.Bucket, e.Keys, e.MasterKey
	n.Clock.Advance(e.Clock.Now().Sub(n.Clock.Now()))
	n.Restart()
	return n
}

func publish(t testing.TB, e *catalogtest.Env) {
	t.Helper()
	if err := collector(e).PublishMachines(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// moved is a's agent talking to another master.
func moved(a *catalogtest.Agent, e *catalogtest.Env) *catalogtest.Agent {
	b := *a
	b.Env = e
	return &b
}

// two makes a world with two machines, the second of which uses packs of the first.
func two(t testing.TB) (e *catalogtest.Env, agents []*catalogtest.Agent, restpoints map[string]catalogtest.Disk) {
	t.Helper()
	e = catalogtest.New(t, nil)
	restpoints = make(map[string]catalogtest.Disk)
	a, b := e.NewAgent("a"), e.NewAgent("b")
	d := disk("d", 1, 130, 0, 66, 129)
	for _, next := range []catalogtest.Disk{d, changed(d, 66), changed(d, 0, 129)} {
		p, _ := a.Replicate(next)
		restpoints[p] = next
		e.Pass(1)
	}
	prove(t, e)
	other := changed(d, 129)
	p, sent := b.Replicate(other)
	restpoints[p] = other
	if sent > 5 {
		t.Fatalf("%d pieces were sent: nothing was shared", sent)
	}
	publish(t, e)
	return e, []*catalogtest.Agent{a, b}, restpoints
}

func rebuild(t testing.TB, e *catalogtest.Env) gc.RebuildReport {
	t.Helper()
	r := must[gc.RebuildReport](t)(collector(e).Rebuild(t.Context(), nil))
	if !r.OK {
		t.Fatalf("rebuild: %+v", r)
	}
	return r
}

func TestRebuild(t *testing.T) {
	was, agents, restpoints := two(t)
	e := lose(t, was)
	r := rebuild(t, e)
	if r.Machines != 2 || r.MachinesAdded != 2 || r.Restpoints != 4 || r.RestpointsAdded != 4 || r.Packs == 0 || r.PacksAdded != r.Packs ||
		r.PacksToProve != int(r.Packs) || r.RestpointsSigned != 0 {
		t.Fatalf("got %+v", r)
	}
	for p, d := range restpoints {
		e.MustRestore(p, d)
		a, b := must[catalog.Restpoint](t)(was.Catalog.Restpoint(t.Context(), p)), must[catalog.Restpoint](t)(e.Catalog.Restpoint(t.Context(), p))
		if a.Sequence != b.Sequence || !a.Listed.Equal(b.Listed) || a.ObjectSize != b.ObjectSize || a.Parent != b.Parent {
			t.Errorf("restpoint %+v became %+v", a, b)
		}
	}
	check := must[gc.CheckReport](t)(collector(e).Check(t.Context(), &gc.CheckOptions{Deep: true}))
	if !check.OK || check.OrphanCount != 0 || check.PacksRead != r.Packs {
		t.Errorf("check after rebuild: %+v", check)
	}
	again := rebuild(t, e)
	if again.MachinesAdded+int(again.PacksAdded)+again.RestpointsAdded+again.PacksToProve != 0 {
		t.Errorf("a second rebuild added something: %+v", again)
	}
	// Everything is needed, and replication goes on: from the base, and from nothing once nodes have proven what is there.
	before := objects(t, e, "")
	later(e)
	collect(t, e, nil)
	if !maps.Equal(before, objects(t, e, "")) {
		t.Error("a collection after the rebuild deleted something")
	}
	m := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), agents[0].Machine.ID))
	if old := must[catalog.Machine](t)(was.Catalog.Machine(t.Context(), m.ID)); m.Sequence != 3 || m.LastLink != old.LastLink || m.LastRestpoint != old.LastRestpoint || m.Name != old.Name {
		t.Errorf("machine %+v became %+v", old, m)
	}
	a := moved(agents[0], e)
	d := restpoints[m.LastRestpoint]
	if p, sent := a.Replicate(d); sent != 0 {
		t.Errorf("%d pieces were sent from the same base", sent)
	} else {
		e.MustRestore(p, d)
	}
	prove(t, e)
	a.ForgetBase()
	if p, sent := a.Replicate(d); sent != 0 {
		t.Errorf("%d pieces were sent without a base", sent)
	} else {
		e.MustRestore(p, d)
	}
}

// Nobody is offered what a rebuild found before it is proven.
func TestRebuildOffersNothingUnproven(t *testing.T) {
	was, agents, restpoints := two(t)
	e := lose(t, was)
	rebuild(t, e)
	a := moved(agents[0], e)
	a.ForgetBase()
	for _, d := range restpoints {
		c := must[*catalogtest.Cycle](t)(a.Open("", d))
		if unknown := must[[]catalogtest.Piece](t)(c.Unknown()); len(unknown) != len(c.Pieces) {
			t.Fatalf("%d of %d pieces are known", len(c.Pieces)-len(unknown), len(c.Pieces))
		}
		return
	}
}

// Another master of the same project takes over: nodes trust its signature only.
func TestRebuildNewMaster(t *testing.T) {
	e, _, restpoints := two(t)
	for generation := range 3 {
		e = lose(t, e)
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		e.MasterKey = key
		e.Restart()
		if r := rebuild(t, e); r.RestpointsSigned != 4 || r.RestpointsAdded != 4 {
			t.Fatalf("generation %d: %+v", generation, r)
		}
		for p, d := range restpoints {
			e.MustRestore(p, d)
		}
		if r := must[gc.CheckReport](t)(collector(e).Check(t.Context(), nil)); !r.OK {
			t.Fatalf("generation %d: %+v", generation, r)
		}
	}
}

func TestRebuildDeath(t *testing.T) {
	was, _, restpoints := two(t)
	for step := 0; ; step++ {
		e := lose(t, was)
		e.DB.DieAfter(step, step%2 == 0)
		_, err := collector(e).Rebuild(t.Context(), nil)
		died := e.DB.Dead()
		if died != errors.Is(err, catalogtest.ErrDead) {
			t.Fatalf("step %d: the master died: %v, the error is %v", step, died, err)
		}
		e.Restart()
		rebuild(t, e)
		for p, d := range restpoints {
			e.MustRestore(p, d)
		}
		if !died {
			break
		}
	}
}

func TestRebuildRefuses(t *testing.T) {
	was, _, _ := two(t)
	e := lose(t, was)
	e.NewAgent("stranger")
	if _, err := collector(e).Rebuild(t.Context(), nil); !wire.HasCode(err, wire.CodeConflict) {
		t.Fatalf("a database of other machines: %v", err)
	}
	if n := len(must[[]catalog.Machine](t)(e.Catalog.Machines(t.Context(), "default"))); n != 1 {
		t.Fatalf("there are %d machines now", n)
	}

	e = lose(t, was)
	m := must[catalog.Machine](t)(was.Catalog.Machine(t.Context(), "a"))
	m = catalog.Machine{ID: m.ID, Name: m.Name, SigningKey: bytes.Repeat([]byte{1}, 32)}
	must[catalog.Machine](t)(e.Catalog.CreateMachine(t.Context(), m))
	if _, err := collector(e).Rebuild(t.Context(), nil); !wire.HasCode(err, wire.CodeConflict) {
		t.Fatalf("a machine with another key: %v", err)
	}
}

// What a rebuild can not list is named, and no collection deletes what it needs.
func TestRebuildReports(t *testing.T) {
	corrupt := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	gone := func([]byte) []byte { return nil }
	tests := []struct {
		name, prefix string
		fn           func([]byte) []byte
	}{
		{"pack cut short", "packs/", cut},
		{"pack gone", "packs/", gone},
		{"restpoint corrupt", "restpoints/", corrupt},
		{"restpoint cut short", "restpoints/", cut},
		{"restpoint empty", "restpoints/", func([]byte) []byte { return []byte{} }},
		{"machine corrupt", "machines/", corrupt},
		{"machine gone", "machines/", gone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			was, _, restpoints := two(t)
			name := slices.Sorted(maps.Keys(objects(t, was, tt.prefix)))[0]
			body := must[io.ReadCloser](t)(was.Bucket.Get(t.Context(), name, 0, -1))
			good := must[[]byte](t)(io.ReadAll(body))
			was.Bucket.Corrupt(name, tt.fn)
			e := lose(t, was)
			r := must[gc.RebuildReport](t)(collector(e).Rebuild(t.Context(), nil))
			if r.OK || r.Count == 0 || r.RestpointsAdded == len(restpoints) {
				t.Fatalf("got %+v, want problems", r)
			}
			for p, d := range restpoints {
				if _, err := e.Catalog.Restpoint(t.Context(), p); err == nil {
					e.MustRestore(p, d) // what is listed is whole
				} else if !strings.Contains(fmt.Sprint(r.List), p) {
					t.Errorf("restpoint %s is neither listed nor named in %v", p, r.List)
				}
			}
			before := objects(t, e, "")
			later(e)
			c := must[gc.Report](t)(collector(e).Collect(t.Context(), nil))
			if !c.Aborted || !maps.Equal(before, objects(t, e, "")) {
				t.Errorf("a collection went on: %+v", c)
			}
			// The object is found again.
			if err := e.Bucket.Put(t.Context(), name, good, nil); err != nil {
				t.Fatal(err)
			}
			rebuild(t, e)
			for p, d := range restpoints {
				e.MustRestore(p, d)
			}
			collect(t, e, nil)
		})
	}
}

// TestRebuildHostile: whoever can write into the bucket can not make a restpoint, a machine or a pack, and can not keep the rest from being found.
func TestRebuildHostile(t *testing.T) {
	was, agents, restpoints := two(t)
	put := func(name string, body []byte) {
		t.Helper()
		if err := was.Bucket.Put(t.Context(), name, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	get := func(name string) []byte {
		t.Helper()
		body := must[io.ReadCloser](t)(was.Bucket.Get(t.Context(), name, 0, -1))
		return must[[]byte](t)(io.ReadAll(body))
	}
	good := slices.Sorted(maps.Keys(objects(t, was, "restpoints/")))
	pack := slices.Sorted(maps.Keys(objects(t, was, "packs/")))[0]
	a := agents[0].Machine.ID
	other := strings.Repeat("ab", 32)
	put("packs/xx/garbage", []byte("x"))
	put("packs/ab/"+other, get(pack))                                         // a pack under another's name
	put("packs/ac/ac"+other[2:], nil)                                         // an empty one
	put("packs/ad/ad"+other[2:], bytes.Repeat([]byte{0xff}, 4096))            //
	put("packs/ae/ae"+other[2:], append(get(pack)[:100], get(pack)[200:]...)) // a piece missing
	put("packs/af/af"+other[2:], sealedElsewhere(t))                          // another project's
	put("restpoints/garbage", []byte("x"))                                    //
	put("restpoints/"+a+"/UPPER", []byte("x"))                                //
	put("restpoints/"+a+"/copy", get(good[0]))                                // a restpoint under another's name
	put("restpoints/nobody/copy", get(good[0]))                               //
	put("restpoints/"+a+"/long", make([]byte, 2<<20))                         //
	put("machines/copy", get("machines/"+a))                                  // a machine under another's name
	put("machines/Not An Id!"[:12], []byte("x"))                              //
	put("machines/long", make([]byte, 1<<20))                                 //
	put("machines/foreign", must[[]byte](t)(format.SealJSON(format.NewKeys(), "machines/foreign", 1)))
	put("machines/keyless", must[[]byte](t)(format.SealJSON(was.Keys, "machines/keyless", gc.MachineRecord{ID: "keyless", Project: "default"})))
	put("machines/list", must[[]byte](t)(format.SealJSON(was.Keys, "machines/list", []int{1})))

	e := lose(t, was)
	r := must[gc.RebuildReport](t)(collector(e).Rebuild(t.Context(), nil))
	if r.OK || r.Count != 17 || r.MachinesAdded != 2 || r.RestpointsAdded != len(restpoints) {
		for _, p := range r.List {
			t.Log(p)
		}
		t.Fatalf("got %d problems, %d machines, %d restpoints", r.Count, r.MachinesAdded, r.RestpointsAdded)
	}
	for p, d := range restpoints {
		e.MustRestore(p, d)
	}
	before := objects(t, e, "")
	check := must[gc.CheckReport](t)(collector(e).Check(t.Context(), nil))
	if check.RestpointsBroken != 0 || check.PacksBroken != 0 || check.OrphanCount != 14 {
		t.Errorf("check: %+v", check)
	}
	later(e)
	must[gc.Report](t)(collector(e).Collect(t.Context(), nil))
	if !maps.Equal(before, objects(t, e, "")) {
		t.Error("a collection deleted objects that it does not know")
	}
}

// A restpoint that is not in its place in the chain is not listed, though all signatures are right.
func TestRebuildFork(t *testing.T) {
	for _, tt := range []struct {
		name  string
		forge func(l *format.ChainLink)
		added int // of 5 in the bucket
	}{
		{"it follows", func(*format.ChainLink) {}, 5},
		{"after a gap", func(l *format.ChainLink) { l.Sequence, l.Previous = 9, [32]byte{1} }, 5},
		{"another one before it", func(l *format.ChainLink) { l.Previous[0]++ }, 4},
		{"a sequence twice", func(l *format.ChainLink) { l.Sequence-- }, 4},
		{"no sequence", func(l *format.ChainLink) { l.Sequence = 0 }, 4},
		{"another machine", func(l *format.ChainLink) { l.Machine = "other" }, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			was, agents, _ := two(t)
			a := agents[0]
			m := must[catalog.Machine](t)(was.Catalog.Machine(t.Context(), a.Machine.ID))
			c := must[*catalogtest.Cycle](t)(a.Open("", disk("d", 1, 130, 0, 66, 129)))
			must[[]catalogtest.Piece](t)(c.Send())
			manifest := must[[]byte](t)(c.Manifest())
			link := format.ChainLink{Machine: m.ID, Sequence: m.Sequence + 1, Previous: m.LastLink, Time: was.Clock.Now()}
			tt.forge(&link)
			object := must[[]byte](t)(format.Countersign(was.MasterKey, manifest, link))
			if err := was.Bucket.Put(t.Context(), format.RestpointName(m.ID, c.Session.Restpoint), object, nil); err != nil {
				t.Fatal(err)
			}
			e := lose(t, was)
			r := must[gc.RebuildReport](t)(collector(e).Rebuild(t.Context(), nil))
			if r.RestpointsAdded != tt.added || int(r.Count) != 5-tt.added {
				t.Errorf("%d restpoints were added, want %d: %+v", r.RestpointsAdded, tt.added, r)
			}
		})
	}
}

// A machine whose commit might take the same place in the chain is left alone.
func TestRebuildLiveSession(t *testing.T) {
	was, agents, restpoints := two(t)
	e := lose(t, was)
	e.Bucket.Fail(func(op, name string) (bool, error) {
		if op == "get" && strings.HasPrefix(name, "restpoints/") {
			return true, staging.ErrTemporary
		}
		return false, nil
	})
	if _, err := collector(e).Rebuild(t.Context(), nil); !errors.Is(err, staging.ErrTemporary) {
		t.Fatalf("staging is down: %v", err)
	}
	e.Bucket.Fail(nil)
	a := moved(agents[0], e)
	a.ForgetBase()
	must[*catalogtest.Cycle](t)(a.Open("", disk("d", 9, 4, 0)))
	r := must[gc.RebuildReport](t)(collector(e).Rebuild(t.Context(), nil))
	if r.OK || r.RestpointsAdded != 1 || !strings.Contains(r.List[0].Message, "live session") {
		t.Fatalf("got %+v", r)
	}
	later(e)
	if r := rebuild(t, e); r.RestpointsAdded != 3 {
		t.Fatalf("after the session: %+v", r)
	}
	for p, d := range restpoints {
		e.MustRestore(p, d)
	}
}

func sealedElsewhere(t *testing.T) []byte {
	t.Helper()
	w := must[*format.PackWriter](t)(format.NewPackWriter(format.NewKeys(), make([]byte, 4096)))
	if err := w.Append(format.KindChunk, [32]byte{1}, 0, 3, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	object, _, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return object
}

func TestPublish(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("a")
	c := collector(e)
	puts := e.Bucket.Puts()
	for range 2 {
		if err := c.PublishMachine(t.Context(), a.Machine.ID); err != nil {
			t.Fatal(err)
		}
	}
	if n := e.Bucket.Puts() - puts; n != 1 {
		t.Errorf("%d PUTs for a record that did not change", n)
	}
	if err := e.Catalog.Revoke(t.Context(), a.Machine.ID); err != nil {
		t.Fatal(err)
	}
	publish(t, e)
	n := lose(t, e)
	rebuild(t, n)
	if m := must[catalog.Machine](t)(n.Catalog.Machine(t.Context(), a.Machine.ID)); !m.Revoked {
		t.Error("a rebuild let a revoked machine in again")
	}
	if err := c.RetireMachine(t.Context(), a.Machine.ID); !wire.HasCode(err, wire.CodeConflict) {
		t.Errorf("retire a machine that is there: %v", err)
	}
	if err := e.Catalog.RemoveMachine(t.Context(), a.Machine.ID); err != nil {
		t.Fatal(err)
	}
	e.Tick()
	for range 2 {
		if err := c.RetireMachine(t.Context(), a.Machine.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Bucket.Stat(t.Context(), gc.MachineObject(a.Machine.ID)); !errors.Is(err, staging.ErrNotFound) {
		t.Errorf("the record is still there: %v", err)
	}
}
