package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
)

// opened is a tracker that is looked at.
type opened struct {
	track.Scan
	starts error
	closed int
}

func (o *opened) Start(ctx context.Context) (track.Cycle, error) {
	if o.starts != nil {
		return nil, o.starts
	}
	return o.Scan.Start(ctx)
}

func (o *opened) Close() error {
	o.closed++
	return nil
}

var errBroke = fmt.Errorf("start a cycle: %w: no memory", track.ErrBroken)

// TestTrackingReopens: a tracker that failed is closed and opened anew, at once and then less and less often.
func TestTrackingReopens(t *testing.T) {
	now := clock.NewFake(time.Unix(1e9, 0))
	var tries []string
	var cannot error
	k := &tracking{clock: now, log: slog.New(slog.DiscardHandler), open: func(anew string) (track.Tracker, error) {
		tries = append(tries, anew)
		if cannot != nil {
			return nil, cannot
		}
		return &opened{}, nil
	}}
	disk := []source.Source{sourcetest.NewMemory("a", make([]byte, 4096))}
	first, ok := k.tracker(disk).(*opened)
	if !ok || k.tracker(disk) != first || len(tries) != 1 || tries[0] != "" {
		t.Fatalf("opened %q", tries)
	}
	k.broke(errors.New("the master is away"))
	k.broke(fmt.Errorf("%w: size changed", track.ErrLost))
	if k.tracker(disk) != first {
		t.Fatal("a tracker is given up for what is not its fault")
	}
	k.broke(errBroke)
	second, ok := k.tracker(disk).(*opened)
	if !ok || first.closed != 1 || second == first || len(tries) != 2 || !strings.Contains(tries[1], "no memory") {
		t.Fatalf("closed %d times, opened %q", first.closed, tries)
	}
	k.broke(errBroke) // and again, with no restpoint between: now it waits
	cannot = errors.New("no memory for programs")
	for range 3 {
		if s, ok := k.tracker(disk).(*track.Scan); !ok || !strings.Contains(s.Why, "no memory") {
			t.Fatal("it is not scanned, or nobody knows why")
		}
	}
	if len(tries) != 2 {
		t.Fatalf("opened %d times, want 2: it did not wait", len(tries))
	}
	for wait, n := trackFirst, 3; n < 12; n++ {
		wait = min(2*wait, trackMost)
		now.Advance(wait - time.Second)
		k.tracker(disk)
		if len(tries) != n-1 {
			t.Fatalf("try %d comes too early", n)
		}
		now.Advance(time.Second)
		k.tracker(disk)
		if len(tries) != n || !strings.Contains(tries[n-1], "the tracker failed") {
			t.Fatalf("try %d does not come: %q", n, tries)
		}
	}
	cannot = nil
	now.Advance(trackMost)
	if _, ok := k.tracker(disk).(*opened); !ok {
		t.Fatal("it is still scanned")
	}
	k.made()
	k.broke(errBroke)
	if _, ok := k.tracker(disk).(*opened); !ok {
		t.Error("after a restpoint it waits before the first try")
	}
	if err := k.close(); err != nil {
		t.Fatal(err)
	}
}

// TestAgentReopensTracker: an agent whose tracker fails makes the next restpoint with another one.
func TestAgentReopensTracker(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	m := newMaster(t)
	file, b := image(t, 4<<20)
	dev := sourcetest.NewLoopDevice(t, file, sourcetest.LoopOptions{})
	src, err := source.New(dev.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	trackers := []*opened{{starts: errBroke}, {}}
	tries := make(chan string, 16)
	o := Options{StateDir: t.TempDir(), Disks: []string{dev.Path}, Token: m.token()}
	o.openTracker = func(anew string) (track.Tracker, error) {
		tries <- anew
		next := trackers[0]
		trackers = trackers[1:]
		return next, nil
	}
	broken, good := trackers[0], trackers[1]
	p := m.start(o)
	m.MustRestore(p.restpoint().Restpoint, catalogtest.Disk{ID: src.ID(), Data: b})
	p.stop()
	if err := p.wait(); err != nil {
		t.Fatal(err)
	}
	if first, second := <-tries, <-tries; first != "" || !strings.Contains(second, "no memory") || broken.closed != 1 || good.closed != 1 {
		t.Errorf("opened with %q and %q, closed %d and %d times", first, second, broken.closed, good.closed)
	}
}
