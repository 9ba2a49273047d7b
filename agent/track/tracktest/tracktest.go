// Package tracktest is the conformance suite of track.Tracker.
package tracktest

import (
	"testing"

	"github.com/openmigrate/openmigrate/agent/track"
)

// Subject is a tracker with a disk that the suite may write.
type Subject struct {
	// Open opens the tracker, as an agent does that starts.
	Open func() track.Tracker
	Disk track.Disk
	// Write changes the disk's 4 KiB at off, and returns when that is on the disk.
	Write func(off int64)
	// Marks: the tracker sees every write to this disk, so it may not ask for a scan where it has a base.
	Marks bool
}

// Run runs the suite. A tracker may mark too much or ask for a scan with a reason; it may not miss a write.
func Run(t *testing.T, s Subject) {
	tr := open(t, s)
	if st := tr.Status(s.Disk.ID); st.Tracker == "" {
		t.Error("a tracker without a name")
	}
	c := start(t, tr)
	if m, why := c.Changed(s.Disk.ID, "point-0"); m != nil || why == "" {
		t.Fatalf("first contact: marks %v, reason %q", m != nil, why)
	}
	settle(t, c, "point-1")

	s.Write(0)
	c = start(t, tr)
	wantChanged(t, s, c, "point-1", 0)
	if m, why := c.Changed(s.Disk.ID, "never"); m != nil || why == "" {
		t.Errorf("a restpoint that never was: marks %v, reason %q", m != nil, why)
	}
	s.Write(1 << 20)
	if p, ok := c.(track.Peeker); ok {
		if m, err := p.Peek(); err != nil || !holds(m[s.Disk.ID], 1<<20) {
			t.Errorf("a write is not there at a look: %v", err)
		}
	}
	flipped, err := c.Flip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m := flipped[s.Disk.ID]; m != nil && !holds(m, 1<<20) {
		t.Error("a write is not in the flip after it")
	}
	// The cycle dies: nothing that it flipped is forgotten.
	c.Close()
	s.Write(2 << 20)
	c = start(t, tr)
	wantChanged(t, s, c, "point-1", 0, 1<<20, 2<<20)

	// It dies between commit and listing, and so does the agent: both restpoints count.
	if err := c.Intend("point-2"); err != nil {
		t.Fatal(err)
	}
	closeTracker(t, tr)
	s.Write(3 << 20)
	tr = open(t, s)
	c = start(t, tr)
	wantChanged(t, s, c, "point-1", 0, 1<<20, 2<<20, 3<<20)
	wantChanged(t, s, c, "point-2", 3<<20)
	settle(t, c, "point-3")

	s.Write(4 << 20)
	c = start(t, tr)
	wantChanged(t, s, c, "point-3", 4<<20)
	if m, why := c.Changed(s.Disk.ID, "point-2"); m != nil || why == "" {
		t.Errorf("a restpoint whose marks were dropped: marks %v, reason %q", m != nil, why)
	}
	c.Close()
	if err := tr.Watch(t.Context(), nil); err != nil {
		t.Error(err)
	}
	closeTracker(t, tr)
}

func open(t *testing.T, s Subject) track.Tracker {
	t.Helper()
	tr := s.Open()
	if err := tr.Watch(t.Context(), []track.Disk{s.Disk}); err != nil {
		t.Fatal(err)
	}
	return tr
}

func closeTracker(t *testing.T, tr track.Tracker) {
	t.Helper()
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, tr track.Tracker) track.Cycle {
	t.Helper()
	c, err := tr.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func settle(t *testing.T, c track.Cycle, restpoint string) {
	t.Helper()
	if err := c.Intend(restpoint); err != nil {
		t.Fatal(err)
	}
	if err := c.Settle(); err != nil {
		t.Fatal(err)
	}
}

func wantChanged(t *testing.T, s Subject, c track.Cycle, base string, offs ...int64) {
	t.Helper()
	m, why := c.Changed(s.Disk.ID, base)
	if m == nil {
		if why == "" {
			t.Error("a scan without a reason")
		}
		if s.Marks {
			t.Errorf("since %s: %s", base, why)
		}
		return
	}
	for _, off := range offs {
		if !holds(m, off) {
			t.Errorf("since %s: the write at %d is not marked", base, off)
		}
	}
}

func holds(m *track.Marks, off int64) bool {
	start, end, err := m.Next(off)
	return err == nil && start == off && end >= min(off+4096, m.Size())
}
