package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMachineNames(t *testing.T) {
	e := catalogtest.New(t, nil)
	for i, tt := range []struct{ wish, want string }{
		{"web", "web"}, {"web", "web-2"}, {"WEB", "web-3"}, {"", "machine"}, {"../etc", "etc"}, {"a b\x00ü", "a-b"},
		{strings.Repeat("x", 300), strings.Repeat("x", 55)}, {strings.Repeat("x", 300), strings.Repeat("x", 55) + "-2"},
	} {
		m, err := e.Catalog.CreateMachine(t.Context(), catalog.Machine{Name: tt.wish})
		if err != nil || m.Name != tt.want {
			t.Errorf("machine %d, %.20q: name %q, %v; want %q", i, tt.wish, m.Name, err, tt.want)
		}
		for _, ref := range []string{m.ID, m.Name} {
			if got, err := e.Catalog.Machine(t.Context(), ref); err != nil || got.ID != m.ID {
				t.Errorf("machine %s: %s, %v", ref, got.ID, err)
			}
		}
	}
	_, err := e.Catalog.Machine(t.Context(), "nonesuch")
	wantCode(t, err, wire.CodeNotFound, "unknown machine")
	if all := must[[]catalog.Machine](t)(e.Catalog.Machines(t.Context(), "default")); len(all) != 8 || all[0].Name != "a-b" {
		t.Errorf("%d machines", len(all))
	}
	_, err = e.Catalog.Machines(t.Context(), "nonesuch")
	wantCode(t, err, wire.CodeNotFound, "unknown project")
}

func TestCloneDetection(t *testing.T) {
	for _, tt := range []struct {
		name string
		last wire.Hello
		code string
	}{
		{"next process", wire.Hello{Generation: 6, Fingerprint: "f"}, ""},
		{"a gap", wire.Hello{Generation: 60, Fingerprint: "f"}, ""},
		{"repeats", wire.Hello{Generation: 5, Fingerprint: "f"}, wire.CodeFrozen},
		{"goes back", wire.Hello{Generation: 4, Fingerprint: "f"}, wire.CodeFrozen},
		{"second host", wire.Hello{Generation: 6, Fingerprint: "g"}, wire.CodeFrozen},
		{"new hardware", wire.Hello{Generation: 6, Fingerprint: "g", Moved: true}, ""},
		{"new hardware, goes back", wire.Hello{Generation: 5, Fingerprint: "g", Moved: true}, wire.CodeFrozen},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := catalogtest.New(t, nil)
			m := must[catalog.Machine](t)(e.Catalog.CreateMachine(t.Context(), catalog.Machine{Name: "m"}))
			hello := func(h wire.Hello) error {
				_, err := e.Catalog.Hello(t.Context(), m.ID, h)
				return err
			}
			wantCode(t, e.Catalog.CheckGeneration(t.Context(), m.ID, 0), wire.CodeStale, "before any hello")
			if err := hello(wire.Hello{Generation: 5, Fingerprint: "f"}); err != nil {
				t.Fatal(err)
			}
			if err := e.Catalog.CheckGeneration(t.Context(), m.ID, 5); err != nil {
				t.Fatal(err)
			}
			err := hello(tt.last)
			if tt.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				wantCode(t, e.Catalog.CheckGeneration(t.Context(), m.ID, 5), wire.CodeStale, "the process before")
				return
			}
			wantCode(t, err, tt.code, "hello")
			e.Restart()
			wantCode(t, hello(wire.Hello{Generation: 100, Fingerprint: "f"}), wire.CodeFrozen, "hello when frozen")
			wantCode(t, e.Catalog.CheckGeneration(t.Context(), m.ID, 5), wire.CodeFrozen, "request when frozen")
			_, err = e.Catalog.OpenSession(t.Context(), m.ID, wire.SessionRequest{Disks: []wire.SessionDisk{{ID: "d", ChunkSize: chunk}}})
			wantCode(t, err, wire.CodeFrozen, "session when frozen")
			now := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), m.ID))
			if now.Frozen == "" || len(now.Events) != 1 || now.Events[0].Code != "identity-frozen" {
				t.Errorf("frozen: %q, events %+v", now.Frozen, now.Events)
			}
			if err := e.Catalog.Unfreeze(t.Context(), m.ID); err != nil {
				t.Fatal(err)
			}
			if err := hello(wire.Hello{Generation: 100, Fingerprint: "g"}); err != nil {
				t.Errorf("hello after unfreeze: %v", err)
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	if err := e.Catalog.Revoke(t.Context(), a.Machine.ID); err != nil {
		t.Fatal(err)
	}
	_, err := e.Catalog.Hello(t.Context(), a.Machine.ID, wire.Hello{Generation: 1})
	wantCode(t, err, wire.CodeRevoked, "hello")
	wantCode(t, e.Catalog.CheckGeneration(t.Context(), a.Machine.ID, 1), wire.CodeRevoked, "request")
	_, err = a.Open("", disk("d", 1, chunk))
	wantCode(t, err, wire.CodeRevoked, "session")
}

func TestHello(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d := disk("d", 1, 2*chunk, 0)
	r, _ := a.Replicate(d)
	c := open(t, a, d)
	h := must[wire.HelloResponse](t)(e.Catalog.Hello(t.Context(), a.Machine.ID, wire.Hello{Generation: 1, Fingerprint: "host of m", Version: "v"}))
	if h.LastRestpoint != r || h.LastRoots["d"] != c.Roots["d"].String() || h.Session != c.Session.ID || !h.Now.Equal(e.Clock.Now()) {
		t.Errorf("hello answered %+v", h)
	}
	e.Pass(91 * time.Second)
	h = must[wire.HelloResponse](t)(e.Catalog.Hello(t.Context(), a.Machine.ID, wire.Hello{Generation: 2, Fingerprint: "host of m"}))
	if h.Session != "" {
		t.Error("hello names a session whose lease ran out")
	}
	_, err := e.Catalog.Hello(t.Context(), "nonesuch", wire.Hello{Generation: 1})
	wantCode(t, err, wire.CodeNotFound, "unknown machine")
}

func TestAssignment(t *testing.T) {
	e := catalogtest.New(t, &catalog.Options{StagingHosts: []string{"s3:443"}})
	a := e.NewAgent("m")
	get := func(version uint64, wait time.Duration) (*wire.Assignment, bool) {
		as, changed, err := e.Catalog.Assignment(t.Context(), a.Machine.ID, version, wait)
		if err != nil {
			t.Fatal(err)
		}
		return as, changed
	}
	as, changed := get(0, 0)
	if !changed || as.Interval != wire.Duration(15*time.Minute) || as.StagingHosts[0] != "s3:443" || len(as.Keys) == 0 {
		t.Fatalf("assignment %+v", as)
	}
	if _, changed := get(as.Version, 0); changed {
		t.Error("changed without a change")
	}
	// A waiting agent hears of a change at once.
	type answer struct {
		as      *wire.Assignment
		changed bool
		err     error
	}
	heard := make(chan answer)
	go func() {
		as, changed, err := e.Catalog.Assignment(t.Context(), a.Machine.ID, as.Version, time.Minute)
		heard <- answer{as, changed, err}
	}()
	sync := must[string](t)(e.Catalog.RequestSync(t.Context(), a.Machine.ID))
	got := <-heard
	if got.err != nil || !got.changed || got.as.Sync != sync || got.as.Version <= as.Version {
		t.Fatalf("after a request to sync: %+v", got)
	}
	r, _ := a.Replicate(disk("d", 1, chunk, 0))
	m := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), a.Machine.ID))
	if m.Sync != "" || len(m.Syncs) != 1 || m.Syncs[0] != (catalog.SyncDone{ID: sync, Restpoint: r}) {
		t.Errorf("after the sync: open %q, done %+v", m.Sync, m.Syncs)
	}
	if err := e.Catalog.SetPaused(t.Context(), m.ID, true); err != nil {
		t.Fatal(err)
	}
	_, err := e.Catalog.RequestSync(t.Context(), m.ID)
	wantCode(t, err, wire.CodeConflict, "sync of a paused machine")
	as, _ = get(got.as.Version, 0)
	if !as.Paused || as.Sync != "" {
		t.Errorf("assignment %+v", as)
	}
	// New addresses of staging are news to every agent, the same ones after a restart are not.
	e.Restart()
	if _, changed := get(as.Version, 0); changed {
		t.Error("changed by a restart")
	}
	e.Options.StagingHosts = []string{"other:443"}
	e.Restart()
	if as, changed := get(as.Version, 0); !changed || as.StagingHosts[0] != "other:443" {
		t.Error("not changed by another address of staging")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = e.Catalog.Assignment(ctx, a.Machine.ID, 1<<40, 0)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestSyncDuringSession: a session that was opened before a wish does not fulfil it.
func TestSyncDuringSession(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	c, manifest := sent(t, a, disk("d", 1, chunk, 0))
	sync := must[string](t)(e.Catalog.RequestSync(t.Context(), a.Machine.ID))
	must[wire.Committed](t)(c.Commit(manifest))
	if m := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), a.Machine.ID)); m.Sync != sync || len(m.Syncs) != 0 {
		t.Errorf("open %q, done %+v", m.Sync, m.Syncs)
	}
}

func TestReportLimits(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	var events []wire.Event
	for i := range 250 {
		events = append(events, wire.Event{Code: fmt.Sprint(i), Message: strings.Repeat("x", 5000), Time: e.Clock.Now().Add(time.Hour)})
	}
	if err := e.Catalog.Report(t.Context(), a.Machine.ID, wire.Report{State: "idle", Events: events, Message: "a\xffb"}); err != nil {
		t.Fatal(err)
	}
	m := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), "m"))
	if len(m.Events) != 100 || m.Events[99].Code != "249" || len(m.Events[0].Message) != 1024 || m.Events[0].Time.After(e.Clock.Now()) {
		t.Errorf("%d events, the last %.100v", len(m.Events), m.Events[99])
	}
	if m.Report.Message != "a�b" || len(m.Report.Events) != 0 {
		t.Errorf("report %+v", m.Report)
	}
}
