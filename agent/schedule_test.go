package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/agent/quiesce"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/wire"
)

// TestMain is also the watchdog, and an agent that can be killed.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "watchdog":
		ended(quiesce.WatchdogMain(os.Args[2:]))
	case os.Getenv(agentEnv) != "":
		ended(agentMain(os.Getenv(agentEnv)))
	}
	goleak.VerifyTestMain(m)
}

func ended(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

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

// TestBehind: a cycle that takes longer than the interval is followed by the next one after a rest.
func TestBehind(t *testing.T) {
	for name, c := range map[string]struct {
		interval, took, since time.Duration // since: after the end
		wait                  time.Duration // 0: runs
	}{
		"on time":                    {time.Minute, 6 * time.Second, 0, 54 * time.Second},
		"as long as the interval":    {time.Minute, time.Minute, 0, 6 * time.Second},
		"longer":                     {time.Minute, 2 * time.Minute, 5 * time.Second, 7 * time.Second},
		"longer, rested":             {time.Minute, 2 * time.Minute, 12 * time.Second, 0},
		"nearly as long":             {time.Minute, 58 * time.Second, 2 * time.Second, 3800 * time.Millisecond},
		"very long":                  {time.Minute, 1000 * time.Hour, restMost - time.Second, time.Second},
		"every second":               {time.Second, 300 * time.Millisecond, 0, 700 * time.Millisecond},
		"every nanosecond":           {1, time.Millisecond, 0, 999 * time.Millisecond},
		"the clock went back by far": {time.Minute, 2 * time.Hour, -time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			clk := clock.NewFake(noon)
			var s schedule
			started := clk.Now()
			clk.Advance(c.took)
			s.made(started, clk.Now(), "")
			clk.Advance(c.since)
			p := s.next(clk.Now(), &wire.Assignment{Interval: wire.Duration(c.interval)})
			if p.run != (c.wait == 0) || p.wait != c.wait {
				t.Errorf("plan %+v, want it to wait for %v", p, c.wait)
			}
			if p := s.next(clk.Now(), &wire.Assignment{Interval: wire.Duration(c.interval), Sync: "s1"}); !p.run {
				t.Errorf("asked for a restpoint, it has the plan %+v", p)
			}
		})
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
