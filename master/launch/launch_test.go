package launch

import (
	"slices"
	"testing"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/wire"
)

func TestTestLaunch(t *testing.T) {
	w := newWorld(t, memprovider.Host)
	if l := w.life(); l != wire.LifeReadyToTest {
		t.Errorf("life is %s", l)
	}
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchTest})
	if l := w.life(); l != wire.LifeTesting {
		t.Errorf("life is %s", l)
	}
	info := w.until(l.ID, wire.LaunchRunning, wire.LaunchFailed)
	if info.State != wire.LaunchRunning {
		t.Fatalf("%+v %+v", info.Failure, info.Log)
	}
	var names []string
	for _, s := range info.Steps {
		names = append(names, s.Name)
	}
	if want := []string{wire.LaunchPending, wire.LaunchHydrating, wire.LaunchConverting, wire.LaunchStarting, wire.LaunchChecking, wire.LaunchRunning}; !slices.Equal(names, want) {
		t.Errorf("steps %v, want %v", names, want)
	}
	if info.Took <= 0 || !info.Checks[0].Passed || info.Deadline.IsZero() || !info.Screenshot || len(info.Volumes) != 2 {
		t.Errorf("%+v", info)
	}
	full, err := w.s.Get(t.Context(), l.ID)
	if err != nil || string(full.Conversion) != `{"of":"convert"}` {
		t.Errorf("report %s: %v", full.Conversion, err)
	}
	if r := w.resources(); r[providers.KindInstance] != 1 || r[providers.KindVolume] != 2 {
		t.Errorf("at the provider: %v", r)
	}
	wantJobs := map[string]int{wire.JobInspect: 1, wire.JobMeasure: 1, wire.JobHydrate: 2, wire.JobConvert: 1}
	for kind, n := range wantJobs {
		if w.jobs[kind] != n {
			t.Errorf("%d jobs of kind %s, want %d", w.jobs[kind], kind, n)
		}
	}
	if _, err := w.s.Revert(t.Context(), l.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	w.until(l.ID, wire.LaunchReverted)
	if r := w.resources(); len(r) != 0 {
		t.Errorf("left at the provider: %v", r)
	}
	if l := w.life(); l != wire.LifeReadyForCutover {
		t.Errorf("life is %s", l)
	}
	if b, err := w.s.Console(t.Context(), l.ID); err != nil || string(b) != goodBoot {
		t.Errorf("console %q: %v", b, err)
	}
}

func TestCutover(t *testing.T) {
	w := newWorld(t, memprovider.Host)
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchCutover, StopSource: true})
	info := w.until(l.ID, wire.LaunchRunning, wire.LaunchFailed)
	if info.State != wire.LaunchRunning {
		t.Fatalf("%+v %+v", info.Failure, info.Log)
	}
	m := w.machine()
	if info.Restpoint != m.LastRestpoint || w.jobs[wire.JobHydrate] != 2 {
		t.Errorf("restpoint %s, the newest is %s", info.Restpoint, m.LastRestpoint)
	}
	for range 3 {
		w.turn()
	}
	if m = w.machine(); m.Hold == nil || !m.Hold.Live || w.get(l.ID).Source != wire.HoldOff || w.life() != wire.LifeLive {
		t.Errorf("hold %+v, source %s, life %s", m.Hold, w.get(l.ID).Source, w.life())
	}
	if _, err := w.s.Finalize(t.Context(), l.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	w.until(l.ID, wire.LaunchFinalized)
	if r := w.resources(); r[providers.KindInstance] != 1 {
		t.Errorf("at the provider: %v", r)
	}
	if l := w.life(); l != wire.LifeFinalized {
		t.Errorf("life is %s", l)
	}
}

func TestRevertCutover(t *testing.T) {
	w := newWorld(t, memprovider.Host)
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchCutover})
	w.until(l.ID, wire.LaunchRunning)
	w.turn()
	if _, err := w.s.Revert(t.Context(), l.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	w.until(l.ID, wire.LaunchReverted)
	w.turn()
	if m := w.machine(); m.Hold != nil || w.thawed != 1 || len(w.resources()) != 0 || w.life() != wire.LifeRolledBack {
		t.Errorf("hold %v, thawed %d times, left %v, life %s", m.Hold, w.thawed, w.resources(), w.life())
	}
}
