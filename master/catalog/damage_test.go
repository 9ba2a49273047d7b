package catalog_test

import (
	"slices"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

// TestHeal: a damaged pack is reported, the agent is told what is lost, sends it again although its base has it, and both restpoints are whole.
func TestHeal(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d := disk("d", 1, 70*chunk, 0, 1, 66)
	r1, all := a.Replicate(d)
	prove(t, e)
	pack := packsIn(t, e)[0]
	e.Bucket.Corrupt(pack.ID.Name(), func(b []byte) []byte { return b[:len(b)/2] })
	if _, err := e.Restore(r1); err == nil {
		t.Fatal("restored from half a pack")
	}
	j := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: r1}))
	lease(t, e, "node")
	if err := e.Catalog.JobQuarantine(t.Context(), "node", j.ID, []wire.Damage{{Pack: pack.ID.String(), Reason: "cut short"}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Catalog.CompleteJob(t.Context(), "node", j.ID, wire.JobResult{Damaged: 1}); err != nil {
		t.Fatal(err)
	}
	if p := must[catalog.Restpoint](t)(e.Catalog.Restpoint(t.Context(), r1)); p.State != catalog.RestpointDamaged {
		t.Errorf("the restpoint is %s", p.State)
	}
	if m := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), "m")); len(m.Events) != 1 || m.Events[0].Code != "staging-damaged" {
		t.Errorf("events %+v", m.Events)
	}
	c := open(t, a, d)
	if c.Session.Parent != r1 || len(c.Session.Lost) != all {
		t.Fatalf("session with parent %q and %d lost ids of %d", c.Session.Parent, len(c.Session.Lost), all)
	}
	if n := len(must[[]catalogtest.Piece](t)(c.Send())); n != all {
		t.Errorf("sent %d pieces of %d", n, all)
	}
	must[wire.Committed](t)(c.Commit(must[[]byte](t)(c.Manifest())))
	e.MustRestore(r1, d)
	e.MustRestore("m/latest", d)
	prove(t, e)
	if c := open(t, a, d); len(c.Session.Lost) != 0 {
		t.Errorf("%d ids are lost after they were sent again and proven", len(c.Session.Lost))
	}
	j = must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: r1}))
	lease(t, e, "node")
	if err := e.Catalog.CompleteJob(t.Context(), "node", j.ID, wire.JobResult{}); err != nil {
		t.Fatal(err)
	}
	if p := must[catalog.Restpoint](t)(e.Catalog.Restpoint(t.Context(), r1)); p.State != catalog.RestpointListed || p.Verified == nil {
		t.Errorf("the restpoint is %s", p.State)
	}
}

func TestQuarantine(t *testing.T) {
	e := catalogtest.New(t, nil)
	a, b := e.NewAgent("a"), e.NewAgent("b")
	d := disk("d", 1, 2*chunk, 0)
	a.Replicate(d)
	b.Replicate(d) // its own copy: a's is not proven
	packs := packsIn(t, e)
	name := packs[0].ID.String()
	lost := func() []string {
		a.ForgetBase()
		s := must[wire.Session](t)(e.Catalog.OpenSession(t.Context(), b.Machine.ID, wire.SessionRequest{
			Parent: must[catalog.Restpoint](t)(e.Catalog.Restpoint(t.Context(), "b/latest")).ID,
			Disks:  []wire.SessionDisk{{ID: "d", Size: 2 * chunk, ChunkSize: chunk}},
		}))
		return s.Lost
	}
	quarantine := func(d ...wire.Damage) error { return e.Catalog.Quarantine(t.Context(), "default", d) }
	wantCode(t, quarantine(wire.Damage{Pack: "x"}), wire.CodeBadRequest, "malformed pack")
	wantCode(t, quarantine(wire.Damage{Pack: name, ID: "x"}), wire.CodeBadRequest, "malformed id")
	wantCode(t, quarantine(make([]wire.Damage, wire.MaxDamage+1)...), wire.CodeBadRequest, "too many")
	if err := quarantine(wire.Damage{Pack: chunker.ID{1}.String()}, wire.Damage{Pack: name, ID: chunker.ID{1}.String()}); err != nil {
		t.Errorf("unknown pack and id: %v", err)
	}
	if l := lost(); len(l) != 0 {
		t.Errorf("lost %q before anything was damaged", l)
	}
	if err := quarantine(wire.Damage{Pack: name}, wire.Damage{Pack: name}); err != nil {
		t.Fatal(err)
	}
	// b's copy does not count for a as long as nobody has checked it.
	ids := must[[]chunker.ID](t)(e.Catalog.PackContents(t.Context(), packs[0].Seq))
	if l := lost(); len(l) != len(ids) || !slices.Contains(l, ids[0].String()) {
		t.Errorf("lost %q, want %d ids", l, len(ids))
	}
	prove(t, e)
	if l := lost(); len(l) != 0 {
		t.Errorf("lost %q after another copy was proven", l)
	}
	// With a proven copy elsewhere nothing is lost.
	a.Replicate(d)
	if err := quarantine(wire.Damage{Pack: packs[1].ID.String(), ID: ids[0].String()}); err != nil {
		t.Fatal(err)
	}
	if l := lost(); len(l) != 1 {
		t.Errorf("lost %q, want the last copy's id", l)
	}
}

// TestQuarantineDuringCommit: a manifest that was checked before damage was found is not listed on the strength of that.
func TestQuarantineDuringCommit(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	c, manifest := sent(t, a, disk("d", 1, 2*chunk, 0), disk("e", 2, 2*chunk, 0))
	pack := packsIn(t, e)[0]
	gets := 0
	e.Bucket.Fail(func(op, _ string) (bool, error) {
		if op != "get" {
			return false, nil
		}
		if gets++; gets != 2 { // the first disk has been checked
			return false, nil
		}
		return false, e.Catalog.Quarantine(t.Context(), "default", []wire.Damage{{Pack: pack.ID.String(), ID: c.Pieces[0].ID.String()}})
	})
	_, err := c.Commit(manifest)
	wantCode(t, err, wire.CodeUnavailable, "commit while damage was found")
	nothingListed(t, e, "m")
	_, err = c.Commit(manifest)
	wantCode(t, err, wire.CodeMissing, "commit after damage was found")
}
