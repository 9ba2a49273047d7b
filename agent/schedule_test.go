package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is a Monday.
var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func TestSchedule(t *testing.T) {
	hour := wire.Duration(time.Hour)
	closed := &wire.Window{From: "22:00", To: "06:00"}
	ran := schedule{Started: noon.Add(-time.Minute)}
	failed := ran
	failed.failed(noon, "s1")
	for name, c := range map[string]struct {
		s     schedule
		now   time.Time
		a     *wire.Assignment
		run   bool
		state string
	}{
		"no assignment":            {schedule{}, noon, nil, false, "waiting"},
		"first":                    {schedule{}, noon, &wire.Assignment{Interval: hour}, true, ""},
		"only when asked":          {schedule{}, noon, &wire.Assignment{}, false, "idle"},
		"asked":                    {ran, noon, &wire.Assignment{Interval: hour, Sync: "s1"}, true, ""},
		"asked and done":           {schedule{Started: noon, done: "s1"}, noon, &wire.Assignment{Interval: hour, Sync: "s1"}, false, "idle"},
		"asked while paused":       {ran, noon, &wire.Assignment{Sync: "s1", Paused: true}, false, "waiting"},
		"asked outside the window": {ran, noon, &wire.Assignment{Sync: "s1", Window: closed}, false, "waiting"},
		"not due":                  {ran, noon, &wire.Assignment{Interval: hour}, false, "idle"},
		"due":                      {ran, noon.Add(59 * time.Minute), &wire.Assignment{Interval: hour}, true, ""},
		"the clock went back":      {ran, noon.Add(-24 * time.Hour), &wire.Assignment{Interval: hour}, true, ""},
		"failed just now":          {failed, noon, &wire.Assignment{Interval: hour, Sync: "s1"}, false, "error"},
		"failed a while ago":       {failed, noon.Add(failFirst), &wire.Assignment{Interval: hour, Sync: "s1"}, true, ""},
		"failed, asked anew":       {failed, noon, &wire.Assignment{Interval: hour, Sync: "s2"}, true, ""},
		"failed, clock went back":  {failed, noon.Add(-24 * time.Hour), &wire.Assignment{Sync: "s1"}, true, ""},
		"window is nonsense":       {ran, noon, &wire.Assignment{Window: &wire.Window{From: "noon", To: "1"}}, false, "error"},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.s.next(c.now, c.a)
			if p.run != c.run || p.state != c.state {
				t.Errorf("plan %+v, want run %v, state %q", p, c.run, c.state)
			}
			if !p.run && (p.wait <= 0 || p.wait > lookAgain) {
				t.Errorf("waits for %v", p.wait)
			}
		})
	}
}

func TestWindow(t *testing.T) {
	at := func(day, hour int) time.Time { return noon.AddDate(0, 0, day).Add(time.Duration(hour-12) * time.Hour) } // day 0: Monday
	night := wire.Window{From: "22:00", To: "06:00"}
	mondays := wire.Window{From: "22:00", To: "06:00", Weekdays: []int{1}}
	for _, c := range []struct {
		w    *wire.Window
		now  time.Time
		open bool
	}{
		{nil, at(0, 3), true},
		{&wire.Window{From: "08:00", To: "18:00"}, at(0, 8), true},
		{&wire.Window{From: "08:00", To: "18:00"}, at(0, 18), false},
		{&wire.Window{From: "00:00", To: "24:00"}, at(0, 23), true},
		{&night, at(0, 23), true}, {&night, at(0, 5), true}, {&night, at(0, 6), false},
		{&mondays, at(0, 23), true}, {&mondays, at(1, 5), true}, {&mondays, at(0, 5), false}, {&mondays, at(1, 23), false},
	} {
		if open, err := inWindow(c.w, c.now); err != nil || open != c.open {
			t.Errorf("%+v at %v: %v, %v; want %v", c.w, c.now, open, err, c.open)
		}
	}
}

func TestFailuresWaitLonger(t *testing.T) {
	var s schedule
	last := time.Duration(0)
	for range 100 {
		s.failed(noon, "")
		if wait := s.retry.Sub(noon); wait < last || wait > failMost {
			t.Fatalf("after %d failures it waits %v, before %v", s.fails, wait, last)
		}
		last = s.retry.Sub(noon)
	}
	if last != failMost {
		t.Errorf("the longest wait is %v", last)
	}
}

// TestSourcesAreThisHosts: the master chooses among devices; it cannot have a file read.
func TestSourcesAreThisHosts(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	inv := &wire.Inventory{Devices: []wire.BlockDevice{{ID: "disk-1", Path: name + "-gone", Name: "sda", Selected: true}}}
	if _, err := sources(inv, nil, []string{name}); !errors.Is(err, source.ErrVanished) {
		t.Errorf("a file that the master named: %v", err)
	}
	if _, err := sources(inv, nil, []string{"disk-1"}); !errors.Is(err, source.ErrVanished) {
		t.Errorf("a device that is gone: %v", err)
	}
	got, err := sources(inv, []string{name}, []string{"disk-1"})
	if err != nil || len(got) != 1 || got[0].Name() != name {
		t.Errorf("a file that the operator named: %v, %v", got, err)
	}
}

func TestLimit(t *testing.T) {
	b := bytes.Repeat([]byte("abc"), 100_000)
	l := newLimiter()
	got, err := io.ReadAll(l.reader(t.Context())(bytes.NewReader(b)))
	if err != nil || !bytes.Equal(got, b) {
		t.Fatalf("without a limit: %d bytes, %v", len(got), err)
	}
	l.set(1) // a byte a second: only the burst gets through before the end
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got, err := io.ReadAll(l.reader(ctx)(bytes.NewReader(b))); err == nil || len(got) > limitStep {
		t.Errorf("with a limit: %d bytes, %v", len(got), err)
	}
}
