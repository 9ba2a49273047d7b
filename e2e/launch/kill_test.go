package launch

import (
	"maps"
	"regexp"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/wire"
)

// round is one launch, of which somebody is killed in some states, once in each.
type round struct {
	kind    string
	instant bool
	kills   kills
	fails   string // pattern of the reason for which the launch may fail; "": it must run
}

// kills say who is killed, by state.
type kills map[string]string

// each kills one in every state.
func each(victim string, states []string) kills {
	k := kills{}
	for _, s := range states {
		k[s] = victim
	}
	return k
}

// The states in which each has something to do.
var (
	testStates     = []string{wire.LaunchPending, wire.LaunchHydrating, wire.LaunchConverting, wire.LaunchStarting, wire.LaunchChecking, wire.LaunchRunning, wire.LaunchReverting}
	cutoverStates  = append([]string{wire.LaunchSyncing}, testStates...)
	hydratorStates = []string{wire.LaunchPending, wire.LaunchHydrating, wire.LaunchConverting}
)

// TestKilled is the short form: who drives a launch, who works for it, and the machine itself.
func TestKilled(t *testing.T) {
	roottest.Need(t, "mounting disks")
	w := newWorld(t, bootable(t, system(t)))
	w.seesWhatIsLeft()
	for _, r := range []round{
		{kind: wire.LaunchCutover, kills: each("master", cutoverStates)},
		{kind: wire.LaunchTest, kills: each("hydrator", hydratorStates)},
		{kind: wire.LaunchTest, kills: each(provider, []string{wire.LaunchChecking}), fails: "^the machine stopped by itself: the machine's process ended"},
	} {
		w.play(r)
	}
}

// play goes through a launch to its end, again for states that went by unseen.
func (w *world) play(r round) {
	w.t.Helper()
	for range 3 {
		if r.kills = w.once(r); len(r.kills) == 0 || w.t.Failed() {
			return
		}
	}
	w.t.Errorf("a %s was never seen in the states %v", r.kind, r.kills)
}

// once goes through a launch, and returns the states in which nobody could be killed.
func (w *world) once(r round) (missed kills) {
	t := w.t
	t.Helper()
	began := time.Now()
	q := w.request(r.kind)
	q.Template.Instant = r.instant
	id := w.start(q)
	left := maps.Clone(r.kills)
	kill := func(state string) {
		t.Helper()
		if victim := left[state]; victim != "" {
			delete(left, state)
			if victim == "hydrator" && state == wire.LaunchConverting {
				w.awaitProgram("openmigrate-fence") // the system's own program runs, on mounts and loop devices
			}
			t.Logf("%6.1f s %s of a %s: %s is killed", time.Since(began).Seconds(), state, r.kind, victim)
			w.kill(victim)
		}
	}
	i := w.until(id, kill, func(i *wire.LaunchInfo) bool { return i.State == wire.LaunchRunning || isOver(i.State) })
	switch {
	case i.State == wire.LaunchRunning && r.fails == "":
	case i.State == wire.LaunchFailed && r.fails != "" && regexp.MustCompile(r.fails).MatchString(i.Failure.Reason):
		t.Logf("failed: %s", i.Failure.Reason)
	default:
		t.Fatalf("%v were killed: %s", r.kills, tell(&i))
	}
	if i.State == wire.LaunchRunning {
		w.revert(id)
		if i = w.until(id, kill, func(i *wire.LaunchInfo) bool { return isOver(i.State) }); i.State != wire.LaunchReverted {
			t.Fatalf("%v were killed: %s", r.kills, tell(&i))
		}
	}
	t.Logf("%6.1f s %s", time.Since(began).Seconds(), i.State)
	w.nothingLeft()
	w.sync() // the source is let go
	t.Logf("%6.1f s nothing is left, and the source replicates", time.Since(began).Seconds())
	if r.fails != "" {
		return nil // it went no further
	}
	return left
}

// until follows a launch, and tells each state.
func (w *world) until(id string, each func(string), done func(*wire.LaunchInfo) bool) wire.LaunchInfo {
	w.t.Helper()
	last, since := "", time.Now()
	for {
		i := w.launch(id)
		if i.State != last {
			last, since = i.State, time.Now()
			each(i.State)
			if i = w.launch(id); i.State != last {
				continue
			}
		}
		if done(&i) {
			return i
		}
		if time.Since(since) > w.limit {
			w.t.Fatalf("it does not get on: %s", tell(&i))
		}
		time.Sleep(poll)
	}
}
