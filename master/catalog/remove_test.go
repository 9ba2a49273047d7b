package catalog_test

import (
	"testing"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

func inBucket(t *testing.T, e *catalogtest.Env, machine, restpoint string) bool {
	t.Helper()
	_, err := e.Bucket.Stat(t.Context(), format.RestpointName(machine, restpoint))
	return err == nil
}

func TestRemoveRestpoint(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d1, d2, d3 := disk("d", 1, 2*chunk, 0), disk("d", 2, 2*chunk, 0), disk("d", 3, 2*chunk, 0)
	r1, _ := a.Replicate(d1)
	r2, _ := a.Replicate(d2)
	r3, _ := a.Replicate(d3)
	if err := e.Catalog.PinRestpoint(t.Context(), r2, true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, e.Catalog.RemoveRestpoint(t.Context(), r2), wire.CodeConflict, "pinned")
	if err := e.Catalog.PinRestpoint(t.Context(), r2, false); err != nil {
		t.Fatal(err)
	}
	if err := e.Catalog.RemoveRestpoint(t.Context(), r2); err != nil {
		t.Fatal(err)
	}
	wantCode(t, e.Catalog.RemoveRestpoint(t.Context(), r2), wire.CodeNotFound, "removed twice")
	e.MustRestore(r1, d1)
	e.MustRestore(r3, d3)
	if inBucket(t, e, a.Machine.ID, r2) {
		t.Error("its object is still there")
	}
	if err := e.Catalog.RemoveRestpoint(t.Context(), r3); err != nil {
		t.Fatal(err)
	}
	if p := must[catalog.Restpoint](t)(e.Catalog.Restpoint(t.Context(), "m/latest")); p.ID != r1 {
		t.Errorf("the newest is %s, want the first", p.ID)
	}
	// The base is gone: the next session starts without, and the chain goes on where it was.
	if r4, n := a.Replicate(d3); n != 0 {
		t.Errorf("sent %d pieces again", n)
	} else if p := must[catalog.Restpoint](t)(e.Catalog.Restpoint(t.Context(), r4)); p.Sequence != 4 {
		t.Errorf("sequence %d after one was removed, want 4", p.Sequence)
	}
	_, err := e.Catalog.Restpoint(t.Context(), r3)
	wantCode(t, err, wire.CodeNotFound, "a removed restpoint")
}

// TestRemoveHeld: a parent of a live session and what a job reads stay in the bucket until they are let go, over a restart, too.
func TestRemoveHeld(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d1, d2 := disk("d", 1, 2*chunk, 0), disk("d", 2, 2*chunk, 0)
	r1, _ := a.Replicate(d1)
	r2, _ := a.Replicate(d2)
	c, manifest := sent(t, a, d2)
	j := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: r1}))
	for _, r := range []string{r1, r2} {
		if err := e.Catalog.RemoveRestpoint(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	e.Restart()
	e.Tick()
	if !inBucket(t, e, a.Machine.ID, r1) || !inBucket(t, e, a.Machine.ID, r2) {
		t.Fatal("a restpoint that is held was deleted")
	}
	col := must[*catalog.Collection](t)(e.Catalog.BeginCollection(t.Context()))
	if len(col.Roots) != 2 {
		t.Errorf("%d roots, want both", len(col.Roots))
	}
	if err := e.Catalog.CancelJob(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	e.Tick()
	if inBucket(t, e, a.Machine.ID, r1) || !inBucket(t, e, a.Machine.ID, r2) {
		t.Error("after the job ended, only what it read goes")
	}
	done := must[wire.Committed](t)(c.Commit(manifest))
	e.MustRestore(done.Restpoint, d2)
	// The bucket fails at first: it is tried again.
	e.Bucket.Fail(func(op, _ string) (bool, error) {
		if op == "delete" {
			return true, staging.ErrTemporary
		}
		return false, nil
	})
	if err := e.Catalog.Tick(t.Context()); err == nil {
		t.Error("tick while the bucket is down went well")
	}
	e.Restart()
	if err := e.Catalog.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if inBucket(t, e, a.Machine.ID, r2) {
		t.Error("its object is still there")
	}
	e.MustRestore(done.Restpoint, d2)
}

func TestRemoveMachine(t *testing.T) {
	e := catalogtest.New(t, nil)
	a, b := e.NewAgent("m"), e.NewAgent("other")
	d := disk("d", 1, 2*chunk, 0)
	r, _ := a.Replicate(d)
	rb, _ := b.Replicate(d)
	c := open(t, a, d)
	wantCode(t, e.Catalog.RemoveMachine(t.Context(), "m"), wire.CodeBusy, "with a live session")
	if err := e.Catalog.AbortSession(t.Context(), a.Machine.ID, c.Session.ID, wire.Failure{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Catalog.PinRestpoint(t.Context(), r, true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, e.Catalog.RemoveMachine(t.Context(), "m"), wire.CodeConflict, "with a pinned restpoint")
	if err := e.Catalog.PinRestpoint(t.Context(), r, false); err != nil {
		t.Fatal(err)
	}
	if err := e.Catalog.RemoveMachine(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	e.Tick()
	e.Tick()
	if inBucket(t, e, a.Machine.ID, r) {
		t.Error("its restpoint is still in the bucket")
	}
	wantCode(t, e.Catalog.RemoveMachine(t.Context(), "m"), wire.CodeNotFound, "removed twice")
	wantCode(t, e.Catalog.CheckGeneration(t.Context(), a.Machine.ID, 1), wire.CodeNotFound, "its agent")
	_, err := a.Open("", d)
	wantCode(t, err, wire.CodeNotFound, "its agent's session")
	_, err = e.Catalog.Session(t.Context(), c.Session.ID)
	wantCode(t, err, wire.CodeNotFound, "its old session")
	if n := e.NewAgent("m"); n.Machine.Name != "m" {
		t.Errorf("its name is not free: %s", n.Machine.Name)
	}
	e.MustRestore(rb, d)
}

func TestOldSessionsAreForgotten(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d := disk("d", 1, chunk, 0)
	var all []string
	for range 20 {
		c := open(t, a, d)
		all = append(all, c.Session.ID)
	}
	e.Tick()
	kept := 0
	for _, id := range all {
		if _, err := e.Catalog.Session(t.Context(), id); err == nil {
			kept++
		}
	}
	if kept < 10 || kept > 17 {
		t.Errorf("%d of %d sessions are kept", kept, len(all))
	}
	if _, err := e.Catalog.Session(t.Context(), all[19]); err != nil {
		t.Errorf("the live session: %v", err)
	}
}
