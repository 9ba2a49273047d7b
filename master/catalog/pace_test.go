package catalog

import (
	"math"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// TestPaceAfter: rates are of what one cycle sent, over its duration and over the time since the restpoint before.
func TestPaceAfter(t *testing.T) {
	opened := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	s := &Session{Opened: opened, Parent: "p"}
	point := func(stored int64, disks ...format.Disk) *Restpoint {
		return &Restpoint{Instant: opened.Add(6 * time.Second), Listed: opened.Add(10 * time.Second), Stats: wire.Progress{Stored: stored}, Disks: disks}
	}
	first := Pace{Cycles: 1, Duration: 10 * time.Second, Delay: 4 * time.Second, Throughput: 200, Demand: 20, Change: 50, Size: 15_000}
	for name, c := range map[string]struct {
		was    Pace
		r      *Restpoint
		before time.Time
		want   Pace
	}{
		"the first": {Pace{}, point(2000, format.Disk{Size: 10_000, Changed: 4000}, format.Disk{Size: 5000, Changed: 1000}), opened.Add(-94 * time.Second), first},
		"the next": {first, point(4000, format.Disk{Size: 15_000, Changed: 15_000}), opened.Add(-94 * time.Second),
			Pace{Cycles: 2, Duration: 10 * time.Second, Delay: 4 * time.Second, Throughput: 300, Demand: 30, Change: 100, Size: 15_000}},
		"lies": {first, point(math.MinInt64, format.Disk{Size: 10_000, Changed: math.MaxInt64}, format.Disk{Size: 5000, Changed: -1}), opened.Add(-94 * time.Second),
			Pace{Cycles: 2, Duration: 10 * time.Second, Delay: 4 * time.Second, Throughput: 100, Demand: 10, Change: 75, Size: 15_000}},
		"the clock went back": {first, point(200, format.Disk{Size: 15_000}), opened.Add(time.Hour),
			Pace{Cycles: 2, Duration: 10 * time.Second, Delay: 4 * time.Second, Throughput: 110, Demand: 110, Change: 25, Size: 15_000}},
	} {
		if got := c.was.after(s, c.r, c.before); got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
	if got := (Pace{}).after(&Session{Opened: opened}, point(2000, format.Disk{Size: 10_000}), time.Time{}); got != (Pace{Size: 10_000}) {
		t.Errorf("a cycle without a base counts: %+v", got)
	}
}

// TestLateStays: cycles that take about as long as they may do not change the state each time.
func TestLateStays(t *testing.T) {
	m := Machine{Interval: time.Minute}
	for i, c := range []struct {
		delay time.Duration
		late  bool
	}{{59, false}, {61, true}, {59, true}, {61, true}, {40, true}, {36, false}, {40, false}, {59, false}} {
		m.Pace = Pace{Cycles: 1, Duration: time.Second, Delay: c.delay * time.Second}
		if m.Late = m.late(); m.Late != c.late {
			t.Errorf("cycle %d, listed %d s after its instant: late is %v", i, c.delay, m.Late)
		}
	}
	m.Interval, m.Late = 0, true
	if m.late() {
		t.Error("without a schedule it is late")
	}
}
