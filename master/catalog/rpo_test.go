package catalog_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

const minute = time.Minute

var monday = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// machine was heard of now, and has a restpoint of that long ago.
func machine(age, interval time.Duration, fn func(*catalog.Machine)) catalog.Machine {
	m := catalog.Machine{Name: "web1", LastSeen: monday, LastRestpoint: "r", LastTime: monday, LastInstant: monday.Add(-age), Interval: interval}
	if fn != nil {
		fn(&m)
	}
	return m
}

// held is a machine that is held for launch L since noon, whose agent says state; the newest restpoint is the hold's.
func held(state string, h wire.Hold) func(*catalog.Machine) {
	return func(m *catalog.Machine) {
		h.ID = "L"
		m.Hold, m.HoldSince, m.HoldReport = &h, monday, wire.HoldReport{ID: "L", State: state, Message: "because"}
		m.Syncs = []catalog.SyncDone{{ID: "L", Restpoint: "r"}}
	}
}

func TestReplication(t *testing.T) {
	pace := func(duration, delay time.Duration) func(*catalog.Machine) {
		return func(m *catalog.Machine) { m.Pace = catalog.Pace{Cycles: 1, Duration: duration, Delay: delay} }
	}
	for _, tt := range []struct {
		want string
		m    catalog.Machine
	}{
		{catalog.Enrolled, catalog.Machine{LastSeen: monday}},
		{catalog.InitialSync, catalog.Machine{LastSeen: monday, Session: "s"}},
		{catalog.Protected, machine(20*minute, 15*minute, nil)},
		{catalog.Protected, machine(9999*time.Hour, 0, nil)},
		{catalog.Lagging, machine(31*minute, 15*minute, nil)},
		{catalog.Stalled, machine(91*minute, 15*minute, nil)},
		{catalog.Protected, machine(14*time.Second, time.Second, nil)}, // a busy moment
		{catalog.Lagging, machine(16*time.Second, time.Second, nil)},
		{catalog.Lagging, machine(59*time.Second, time.Second, nil)},
		{catalog.Stalled, machine(61*time.Second, time.Second, nil)},
		{catalog.Protected, machine(-time.Hour, time.Second, nil)}, // the clock was put back
		{catalog.Protected, machine(minute, 15*minute, pace(14*minute, 14*minute))},
		{catalog.Lagging, machine(minute, 15*minute, pace(16*minute, 16*minute))}, // though its newest is fresh: the next will be late
		{catalog.Protected, machine(minute, 15*minute, pace(16*minute, 2*minute))},
		{catalog.Stalled, machine(minute, 15*minute, pace(time.Hour, time.Hour))},
		{catalog.Protected, machine(0, 15*minute, pace(minute, 11*minute))},
		{catalog.Lagging, machine(0, 15*minute, func(m *catalog.Machine) { pace(minute, 11*minute)(m); m.Late = true })},
		{catalog.Protected, machine(0, 15*minute, func(m *catalog.Machine) { pace(minute, 8*minute)(m); m.Late = true })},
		{catalog.Protected, machine(0, 30*minute, func(m *catalog.Machine) { pace(minute, 11*minute)(m); m.Late = true })}, // a longer interval mends it at once
		{catalog.Lagging, machine(0, minute, func(m *catalog.Machine) { m.Unconverged = 2 })},
		{catalog.Stalled, machine(0, minute, func(m *catalog.Machine) { m.Unconverged = 3 })},
		{catalog.Protected, machine(0, minute, func(m *catalog.Machine) { m.Unconverged, m.Policy.Consistency = 3, "fuzzy" })},
		{catalog.Rescanning, machine(91*minute, 15*minute, func(m *catalog.Machine) { m.Session, m.Rescanning = "s", true })},
		{catalog.Disconnected, machine(0, minute, func(m *catalog.Machine) { m.LastSeen = monday.Add(-4 * minute) })},
		{catalog.Held, machine(time.Hour, minute, held("", wire.Hold{}))},
		{catalog.Held, machine(time.Hour, minute, held(wire.HoldFrozen, wire.Hold{}))},
		{catalog.Held, machine(time.Hour, minute, func(m *catalog.Machine) { held(wire.HoldFrozen, wire.Hold{})(m); m.Paused = true })},
		{catalog.Stalled, machine(time.Hour, minute, held(wire.HoldLost, wire.Hold{}))},
		{catalog.Lagging, machine(90*time.Second+minute, minute, held(wire.HoldFailed, wire.Hold{}))},
		{catalog.Held, machine(time.Hour, minute, held(wire.HoldLost, wire.Hold{Live: true}))},
		{catalog.Disconnected, machine(time.Hour, minute, func(m *catalog.Machine) { held(wire.HoldFrozen, wire.Hold{})(m); m.LastSeen = monday.Add(-4 * minute) })},
		{catalog.Disconnected, machine(time.Hour, minute, func(m *catalog.Machine) {
			held(wire.HoldFrozen, wire.Hold{Live: true})(m)
			m.LastSeen = monday.Add(-4 * minute)
		})},
		{catalog.Held, machine(time.Hour, minute, func(m *catalog.Machine) {
			held(wire.HoldOff, wire.Hold{Live: true, StopSource: true})(m)
			m.LastSeen = monday.Add(-4 * minute)
		})},
		{catalog.Paused, machine(0, minute, func(m *catalog.Machine) { m.Paused, m.LastSeen = true, monday.Add(-4*minute) })},
	} {
		if got := tt.m.Replication(monday); got != tt.want {
			t.Errorf("%+v is %s, want %s", tt.m, got, tt.want)
		}
	}
}

// TestDiagnosis: a state that is not good has a reason, and a next step that names a command.
func TestDiagnosis(t *testing.T) {
	slow := catalog.Pace{Cycles: 3, Duration: 20 * minute, Delay: 20 * minute, Demand: 5 << 20}
	for name, c := range map[string]struct {
		m            catalog.Machine
		reason, next string
	}{
		"protected":     {machine(0, minute, nil), "", "none"},
		"agent gone":    {machine(0, minute, func(m *catalog.Machine) { m.LastSeen = monday.Add(-4 * minute) }), "not heard of for 4m0s", "openmigrate-agent status"},
		"paused":        {machine(0, minute, func(m *catalog.Machine) { m.Paused = true }), "paused", "openmigrate machines resume web1"},
		"shut out":      {machine(0, minute, func(m *catalog.Machine) { m.Revoked = true }), "shut out", "openmigrate machines rm web1"},
		"copied":        {machine(0, minute, func(m *catalog.Machine) { m.Frozen = "two agents" }), "two agents", "openmigrate machines unfreeze web1"},
		"cycles fail":   {machine(time.Hour, minute, func(m *catalog.Machine) { m.Failure = "read sda: broken" }), "read sda: broken", "openmigrate machines sync web1"},
		"window closed": {machine(time.Hour, minute, func(m *catalog.Machine) { m.Policy.Window = &wire.Window{From: "22:00", To: "06:00"} }), "22:00-06:00 UTC) is closed", "--window always"},
		"bandwidth":     {machine(time.Hour, minute, func(m *catalog.Machine) { m.Pace, m.Policy.Bandwidth = slow, 5<<20 }), "bandwidth limit lets through", "openmigrate machines set web1 --bandwidth 10485760"},
		"bandwidth was cut": {machine(2*minute+1, minute, func(m *catalog.Machine) {
			m.Pace, m.Policy.Bandwidth, m.Session = catalog.Pace{Cycles: 3, Duration: time.Second, Demand: 5 << 20}, 1<<20, "s"
		}), "bandwidth limit lets through", "--bandwidth 10485760"},
		"no convergence": {machine(0, minute, func(m *catalog.Machine) { m.Unconverged = 3 }), "written faster than they are read", "openmigrate machines show web1"},
		"slow": {machine(time.Hour, minute, func(m *catalog.Machine) { m.Pace, m.Policy.Bandwidth = slow, 100<<20 }),
			"cycles take 20m0s, and the interval is 1m0s", "openmigrate machines set web1 --interval 30m0s"},
		"scanned": {machine(time.Hour, minute, func(m *catalog.Machine) {
			m.Pace, m.Report.Disks = slow, []wire.DiskReport{{Name: "sda", Tracker: "ebpf"}, {Name: "sdb", Tracker: "scan", TrackerWhy: "no tracepoints"}}
		}), "sdb is read whole each time (no tracepoints)", "--interval 30m0s"},
		"held":              {machine(time.Hour, minute, held(wire.HoldFrozen, wire.Hold{})), "held for cutover L since 2026-03-02T12:00:00Z", "openmigrate launch show L"},
		"hold lost":         {machine(time.Hour, minute, held(wire.HoldLost, wire.Hold{})), "came to nothing: because", "openmigrate launch revert L"},
		"moved":             {machine(time.Hour, minute, held(wire.HoldOff, wire.Hold{Live: true, StopSource: true})), "it was moved by launch L", "openmigrate launch finalize L"},
		"moved, source up":  {machine(time.Hour, minute, held(wire.HoldLost, wire.Hold{Live: true})), "is not held any more: because", "nobody uses the source"},
		"under way":         {machine(time.Hour, minute, func(m *catalog.Machine) { m.Session, m.Opened = "s", monday.Add(-5*time.Second) }), "began 5s ago", "openmigrate machines show web1"},
		"nothing goes":      {machine(time.Hour, minute, nil), "no cycle has begun", "openmigrate machines sync web1"},
		"first cycle fails": {catalog.Machine{Name: "web1", LastSeen: monday, Failure: "no disk"}, "no disk", "openmigrate machines sync web1"},
		"first cycle":       {catalog.Machine{Name: "web1", LastSeen: monday, Session: "s"}, "read whole", "openmigrate machines show web1"},
		"no cycle yet":      {catalog.Machine{Name: "web1", LastSeen: monday}, "no restpoint", "openmigrate machines sync web1"},
	} {
		s := c.m.Standing(monday)
		if !strings.Contains(s.Reason, c.reason) || (s.Reason == "") != (c.reason == "") || !strings.Contains(s.NextStep, c.next) {
			t.Errorf("%s: %s because %q, next %q", name, s.State, s.Reason, s.NextStep)
		}
	}
}

func TestStanding(t *testing.T) {
	pace := catalog.Pace{Cycles: 2, Duration: 10 * time.Second, Delay: 4 * time.Second, Throughput: 300, Change: 1000, Size: 100_000}
	running := func(p wire.Progress) func(*catalog.Machine) {
		return func(m *catalog.Machine) {
			m.Pace, m.Session, m.Opened, m.Progress = pace, "s", monday.Add(-5*time.Second), &p
		}
	}
	for name, c := range map[string]struct {
		m    catalog.Machine
		want catalog.Standing // without State, Reason, NextStep
	}{
		"no restpoint": {catalog.Machine{LastSeen: monday, Interval: minute}, catalog.Standing{Target: 2 * minute}},
		"on time": {machine(20*time.Second, minute, func(m *catalog.Machine) { m.Pace = pace }),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 64 * time.Second, Target: 2 * minute, Backlog: 20_000, Change: 1000, Throughput: 300}},
		"late": {machine(70*time.Second, minute, func(m *catalog.Machine) { m.Pace = pace }),
			catalog.Standing{RPO: 70 * time.Second, Predicted: 64 * time.Second, Target: 2 * minute, Lag: 6 * time.Second, Backlog: 70_000, Change: 1000, Throughput: 300}},
		"all has changed": {machine(time.Hour, 0, func(m *catalog.Machine) { m.Pace = pace }),
			catalog.Standing{RPO: time.Hour, Backlog: 100_000, Change: 1000, Throughput: 300}},
		"behind": {machine(20*time.Second, time.Second, func(m *catalog.Machine) { m.Pace = pace }),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 15 * time.Second, Target: 15 * time.Second, Lag: 15 * time.Second, Backlog: 20_000, Change: 1000, Throughput: 300}},
		"running": {machine(20*time.Second, minute, running(wire.Progress{Total: 40_000, Done: 10_000, Stored: 4000})),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 64 * time.Second, Target: 2 * minute, Backlog: 35_000, Change: 1000, Throughput: 800, ETA: monday.Add(15 * time.Second)}},
		"nothing read yet": {machine(20*time.Second, minute, running(wire.Progress{Total: 40_000})),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 64 * time.Second, Target: 2 * minute, Backlog: 45_000, Change: 1000, Throughput: 300, ETA: monday.Add(5 * time.Second)}},
		"read and not sent": {machine(20*time.Second, minute, running(wire.Progress{Total: 40_000, Done: 40_000, Sent: 30_000})),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 120 * time.Second, Target: 2 * minute, Backlog: 35_000, Change: 1000, Throughput: 300, ETA: monday.Add(100 * time.Second)}},
		"held back": {machine(20*time.Second, minute, func(m *catalog.Machine) {
			running(wire.Progress{Total: 40_000, Done: 40_000, Sent: 30_000})(m)
			m.Policy.Bandwidth = 100
		}), catalog.Standing{RPO: 20 * time.Second, Predicted: 320 * time.Second, Target: 2 * minute, Backlog: 35_000, Change: 1000, Throughput: 100, ETA: monday.Add(300 * time.Second)}},
		"compressed well": {machine(20*time.Second, minute, running(wire.Progress{Total: 1 << 40, Done: 1 << 40, Sent: 1 << 40, Stored: 5 << 30})),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 64 * time.Second, Target: 2 * minute, Backlog: 192<<20 + 5000, Change: 1000, Throughput: 1 << 30, ETA: monday.Add(187500 * time.Microsecond)}},
		"nonsense": {machine(20*time.Second, minute, running(wire.Progress{Total: -1, Done: math.MaxInt64, Stored: -7})),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 64 * time.Second, Target: 2 * minute, Backlog: 5000, Change: 1000, Throughput: 300, ETA: monday}},
		"held": {machine(time.Hour, minute, func(m *catalog.Machine) { m.Pace = pace; held(wire.HoldFrozen, wire.Hold{})(m) }), catalog.Standing{Throughput: 300}},
		"hold syncing": {machine(20*time.Second, minute, func(m *catalog.Machine) { m.Pace = pace; held(wire.HoldSyncing, wire.Hold{})(m) }),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 64 * time.Second, Target: 2 * minute, Backlog: 20_000, Change: 1000, Throughput: 300}},
		"hold without its restpoint": {machine(20*time.Second, minute, func(m *catalog.Machine) { m.Pace = pace; held(wire.HoldFrozen, wire.Hold{})(m); m.Syncs = nil }),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 64 * time.Second, Target: 2 * minute, Backlog: 20_000, Change: 1000, Throughput: 300}},
		"endless": {machine(20*time.Second, minute, running(wire.Progress{Total: math.MaxInt64, Done: 1})),
			catalog.Standing{RPO: 20 * time.Second, Predicted: 366*24*time.Hour + 20*time.Second, Target: 2 * minute, Backlog: 1<<56 + 5000, Change: 1000, Throughput: 300, ETA: monday.Add(366 * 24 * time.Hour)}},
	} {
		got := c.m.Standing(monday)
		got.State, got.Reason, got.NextStep = "", "", ""
		if got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
}

// TestInstant: the master dates restpoints by its own clock, whatever an agent says.
func TestInstant(t *testing.T) {
	for name, c := range map[string]struct {
		now, created time.Duration // of the agent's clock against the master's: when it opened the session, and what its manifest says
		silent       bool
		want         time.Duration // after the session was opened; it is listed after a minute
	}{
		"same clock":          {0, 20 * time.Second, false, 20 * time.Second},
		"an hour ahead":       {time.Hour, time.Hour + 20*time.Second, false, 20 * time.Second},
		"years behind":        {-1e5 * time.Hour, -1e5*time.Hour + 20*time.Second, false, 20 * time.Second},
		"tells no time":       {0, 20 * time.Second, true, 0},
		"put forward between": {0, 5 * time.Hour, false, minute},
		"put back between":    {0, -5 * time.Hour, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := catalogtest.New(t, nil)
			a := e.NewAgent("m")
			opened := e.Clock.Now()
			if !c.silent {
				a.Now = opened.Add(c.now)
			}
			cycle, _ := sent(t, a, disk("d", 1, chunk, 0))
			e.Clock.Advance(c.created) // the manifest is dated by the clock that all share here
			manifest := must[[]byte](t)(cycle.Manifest())
			e.Clock.Advance(minute - c.created)
			r := must[wire.Committed](t)(cycle.Commit(manifest))
			p := must[catalog.Restpoint](t)(e.Catalog.Restpoint(t.Context(), r.Restpoint))
			m := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), "m"))
			if got := p.Instant.Sub(opened); got != c.want || !m.LastInstant.Equal(p.Instant) {
				t.Errorf("the restpoint is of %v after the session was opened, want %v; the machine says %v", got, c.want, m.LastInstant)
			}
		})
	}
}

// TestPace: what cycles show of their pace, and that a restpoint that is removed makes the copy older.
func TestPace(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	d := disk("d", 1, 8*chunk, 0, 1, 2, 3)
	cycle := func(took time.Duration) string {
		c := open(t, a, d)
		must[[]catalogtest.Piece](t)(c.Send())
		e.Clock.Advance(took)
		return must[wire.Committed](t)(c.Commit(must[[]byte](t)(c.Manifest()))).Restpoint
	}
	first := cycle(time.Hour)
	m := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), "m"))
	if m.Pace.Cycles != 0 || m.Pace.Size != 8*chunk {
		t.Errorf("after the first cycle the pace is %+v", m.Pace)
	}
	for i, want := range []time.Duration{40 * time.Second, 30 * time.Second, 25 * time.Second} {
		e.Clock.Advance(minute)
		took := 40 * time.Second
		if i > 0 {
			took = 20 * time.Second
		}
		d = changed(d, i*chunk)
		cycle(took)
		m = must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), "m"))
		if m.Pace.Cycles != uint64(i+1) || m.Pace.Duration != want {
			t.Errorf("after cycle %d the pace is %+v, want a duration of %v", i+2, m.Pace, want)
		}
	}
	m.LastSeen = e.Clock.Now() // this agent calls the catalog past the door
	if s := e.Catalog.Standing(&m); s.State != catalog.Protected || s.RPO != 20*time.Second {
		t.Errorf("standing %+v", s)
	}
	last := m.LastRestpoint
	if err := e.Catalog.RemoveRestpoint(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	m = must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), "m"))
	if s := e.Catalog.Standing(&m); m.LastRestpoint == first || s.RPO != 100*time.Second {
		t.Errorf("without the newest restpoint: %+v", s)
	}
}

// TestCycleReports: what an agent says of disks and cycles stays until it says otherwise, and is bounded.
func TestCycleReports(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	report := func(r wire.Report) *catalog.Machine {
		t.Helper()
		if err := e.Catalog.Report(t.Context(), a.Machine.ID, r); err != nil {
			t.Fatal(err)
		}
		m := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), "m"))
		return &m
	}
	long := strings.Repeat("x", 5000)
	hostile := wire.Report{State: long, Message: long, Progress: &wire.Progress{Phase: long, Message: long},
		Cycle: &wire.CycleReport{Restpoint: long, Duration: math.MaxInt64, Frozen: -1, Passes: -5, Backlog: math.MaxInt64}}
	for i := range 1000 {
		hostile.Disks = append(hostile.Disks, wire.DiskReport{ID: fmt.Sprint(i), Name: long, Tracker: long, TrackerWhy: long, Consistency: long, ConsistencyWhy: long})
		hostile.Cycle.Why = append(hostile.Cycle.Why, long)
	}
	m := report(hostile)
	c := m.Report.Cycle
	if len(m.Report.Disks) != wire.MaxDisks || len(c.Why) != wire.MaxWhy || c.Passes != 0 || c.Frozen != 0 || c.Backlog != 1<<56 || len(m.Report.Progress.Phase) > 1024 {
		t.Errorf("kept %d disks, %d reasons, %+v", len(m.Report.Disks), len(c.Why), c)
	}
	for _, text := range []string{m.Report.Disks[0].Name, m.Report.Disks[0].Tracker, m.Report.Disks[0].TrackerWhy, c.Restpoint, c.Why[0]} {
		if len(text) > 300 {
			t.Errorf("kept a text of %d bytes", len(text))
		}
	}
	m = report(wire.Report{State: "replicating", Disks: []wire.DiskReport{{ID: "d", Tracker: "ebpf"}}})
	if len(m.Report.Disks) != 1 || m.Report.Cycle == nil {
		t.Errorf("after news of disks alone: %+v", m.Report)
	}
	m = report(wire.Report{State: "error", Message: "no luck"})
	if len(m.Report.Disks) != 1 || m.Report.Cycle == nil || m.Failure != "no luck" {
		t.Errorf("after a failure: %+v, %q", m.Report, m.Failure)
	}
	a.Replicate(disk("d", 1, chunk, 0))
	if m = report(wire.Report{State: "idle"}); m.Failure != "" {
		t.Errorf("after a restpoint there is a failure %q", m.Failure)
	}
	for i, r := range []wire.CycleReport{{Restpoint: "1", Unconverged: true}, {Restpoint: "1", Unconverged: true}, {Restpoint: "2", Unconverged: true}, {Restpoint: "3"}} {
		if m = report(wire.Report{Cycle: &r}); m.Unconverged != []int{1, 1, 2, 0}[i] {
			t.Errorf("after report %d, %d cycles in a row did not converge", i, m.Unconverged)
		}
	}
}
