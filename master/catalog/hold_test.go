package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

// TestHold: a hold reaches the agent with the next assignment, keeps every session away but its own, and goes when it is released.
func TestHold(t *testing.T) {
	e := catalogtest.New(t, nil)
	ctx := t.Context()
	a := e.NewAgent("m")
	a.Replicate(disk("d", 1, 4*chunk, 1))
	hold := wire.Hold{ID: "L", Timeout: wire.Duration(time.Hour)}
	set := func(h *wire.Hold) {
		t.Helper()
		if err := e.Catalog.SetHold(ctx, a.Machine.ID, h); err != nil {
			t.Fatal(err)
		}
	}
	assignment := func() *wire.Assignment {
		t.Helper()
		as, _, err := e.Catalog.Assignment(ctx, a.Machine.ID, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return as
	}
	report := func(r wire.HoldReport) wire.HoldReport {
		t.Helper()
		if err := e.Catalog.Report(ctx, a.Machine.ID, wire.Report{State: "waiting", Hold: &r}); err != nil {
			t.Fatal(err)
		}
		return must[catalog.Machine](t)(e.Catalog.Machine(ctx, a.Machine.ID)).HoldReport
	}
	running := open(t, a, disk("d", 1, 4*chunk, 1, 2))
	before := assignment()
	set(&hold)
	first := assignment()
	if *first.Hold != hold || first.Version == before.Version || before.Hold != nil {
		t.Errorf("version %d has hold %v, %d had %v", first.Version, first.Hold, before.Version, before.Hold)
	}
	set(&hold)
	if again := assignment(); again.Version != first.Version {
		t.Error("the same hold made a new assignment")
	}
	wantCode(t, e.Catalog.SetHold(ctx, a.Machine.ID, &wire.Hold{ID: "K"}), wire.CodeConflict, "a second launch's hold")
	_, err := e.Catalog.RequestSync(ctx, a.Machine.ID)
	wantCode(t, err, wire.CodeConflict, "a wish for a restpoint of a machine that is held")

	// A session that was open is no worse for it; a new one is.
	must[[]catalogtest.Piece](t)(running.Send())
	must[wire.Committed](t)(running.Commit(must[[]byte](t)(running.Manifest())))
	wish := wire.SessionRequest{Disks: []wire.SessionDisk{{ID: "d", Size: 4 * chunk, ChunkSize: chunk}}}
	_, err = e.Catalog.OpenSession(ctx, a.Machine.ID, wish)
	wantCode(t, err, wire.CodeConflict, "a session of a machine that is held")
	wish.Sync = "L"
	must[wire.Session](t)(e.Catalog.OpenSession(ctx, a.Machine.ID, wish))

	if got := report(wire.HoldReport{ID: "K", State: wire.HoldFrozen}); got != (wire.HoldReport{ID: "L"}) {
		t.Errorf("another hold's report was taken: %v", got)
	}
	if got := report(wire.HoldReport{ID: "L", State: "strange"}); got.State != "" {
		t.Errorf("an unknown state was taken: %v", got)
	}
	long := report(wire.HoldReport{ID: "L", State: wire.HoldSyncing, Restpoint: strings.Repeat("x", 1<<20), Message: strings.Repeat("é", 1<<20)})
	if long.State != wire.HoldSyncing || len(long.Restpoint) > wire.MaxNameLength+8 || len(long.Message) > 1100 {
		t.Errorf("%s, %d and %d bytes were kept", long.State, len(long.Restpoint), len(long.Message))
	}
	frozen := report(wire.HoldReport{ID: "L", State: wire.HoldFrozen, Restpoint: "r"})
	if err := e.Catalog.Report(ctx, a.Machine.ID, wire.Report{State: "waiting"}); err != nil {
		t.Fatal(err)
	}
	e.Restart()
	if m := must[catalog.Machine](t)(e.Catalog.Machine(ctx, a.Machine.ID)); m.HoldReport != frozen || *m.Hold != hold || m.HoldSince.IsZero() {
		t.Errorf("after a restart: %v, %v", m.Hold, m.HoldReport)
	}

	hold.Live = true
	set(&hold)
	if as := assignment(); !as.Hold.Live || as.Version == first.Version {
		t.Error("that the copy serves did not reach the agent")
	}
	set(nil)
	set(nil)
	if as := assignment(); as.Hold != nil {
		t.Error("the hold was not released")
	}
	if got := report(wire.HoldReport{ID: "L", State: wire.HoldReleased}); got.State != wire.HoldReleased {
		t.Errorf("after the release: %v", got)
	}
	set(&wire.Hold{ID: "M"})
	if m := must[catalog.Machine](t)(e.Catalog.Machine(ctx, a.Machine.ID)); m.HoldReport != (wire.HoldReport{ID: "M"}) || m.Hold.Timeout != wire.Duration(wire.DefaultHold) {
		t.Errorf("the next hold: %v, %v", m.Hold, m.HoldReport)
	}
}

func TestHoldRefused(t *testing.T) {
	e := catalogtest.New(t, nil)
	ctx := t.Context()
	a := e.NewAgent("m")
	for name, h := range map[string]wire.Hold{
		"no id": {}, "long id": {ID: strings.Repeat("x", 300)}, "negative": {ID: "L", Timeout: -1}, "endless": {ID: "L", Timeout: wire.Duration(25 * time.Hour)},
	} {
		wantCode(t, e.Catalog.SetHold(ctx, a.Machine.ID, &h), wire.CodeBadRequest, name)
	}
	wantCode(t, e.Catalog.SetHold(ctx, "nonesuch", &wire.Hold{ID: "L"}), wire.CodeNotFound, "unknown machine")
	if err := e.Catalog.SetPaused(ctx, a.Machine.ID, true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, e.Catalog.SetHold(ctx, a.Machine.ID, &wire.Hold{ID: "L"}), wire.CodeConflict, "a machine that is paused")
	if err := e.Catalog.Revoke(ctx, a.Machine.ID); err != nil {
		t.Fatal(err)
	}
	wantCode(t, e.Catalog.SetHold(ctx, a.Machine.ID, &wire.Hold{ID: "L"}), wire.CodeRevoked, "a machine that was shut out")
	if err := e.Catalog.SetHold(ctx, a.Machine.ID, nil); err != nil {
		t.Errorf("nothing to release: %v", err)
	}
}
