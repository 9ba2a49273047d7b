package cycle_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Peek makes it a track.Peeker.
func (t *liveTracker) Peek() (map[string]*track.Marks, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]*track.Marks{}
	for id, m := range t.active {
		out[id] = track.NewMarks(m.Size(), grain)
		out[id].Union(m)
	}
	return out, nil
}

// TestRawWriters: on a disk whose second half belongs to no file system somebody writes while file systems are frozen.
func TestRawWriters(t *testing.T) {
	w := newWorld(t)
	tracker := &liveTracker{}
	d := &liveDisk{id: "a", data: content(rand.New(rand.NewPCG(25, 26)), 4<<20), t: tracker}
	const half, esp = 2 << 20, 3 << 20
	raw := func(s source.Source, written *track.Marks) cycle.Stray {
		var stray cycle.Stray
		if start, _, err := written.Next(half); err == nil && start < esp {
			stray.Where, stray.Sure = "a2", true
		}
		if _, _, err := written.Next(esp); err == nil {
			stray.Unsynced = "a3"
		}
		return stray
	}
	for _, step := range []struct {
		name                 string
		before, late, during int   // when something is written: before all is prepared, as so many freezes begin, and in so many of them
		at                   int64 // where
		want                 format.Consistency
		tries                int
	}{
		{name: "first", want: format.Filesystem, tries: 1},
		{name: "file system", before: 1, during: 9, at: half / 2, want: format.Filesystem, tries: 1},
		{name: "raw before", before: 1, at: half + grain, want: format.Crash, tries: 1},
		{name: "nobody", want: format.Filesystem, tries: 1},
		{name: "raw once", during: 1, at: half + grain, want: format.Crash, tries: 2},
		{name: "raw always", during: 99, at: half, want: format.Fuzzy, tries: 4},
		{name: "what was written last", want: format.Crash, tries: 1},
		{name: "synced before", before: 1, at: esp, want: format.Filesystem, tries: 1},
		{name: "not synced", late: 1, at: esp, want: format.Filesystem, tries: 2},
		{name: "after the sync", during: 1, at: esp, want: format.Filesystem, tries: 2},
		{name: "never synced", late: 99, at: esp, want: format.Fuzzy, tries: 4},
		{name: "nobody again", want: format.Filesystem, tries: 1},
	} {
		tries := 0
		var frozen []byte
		conf := w.config(d)
		conf.Tracker, conf.Raw = tracker, raw
		conf.Freeze = func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
			tries++
			if tries <= step.late {
				d.write([]byte("written late"), step.at)
			}
			d.mu.Lock()
			frozen = append([]byte(nil), d.data...)
			if tries <= step.during { // it reaches the disk after this is read
				d.onRead = func() {
					copy(d.data[step.at:], "written while frozen")
					d.t.mark("a", step.at, 20)
				}
			}
			d.mu.Unlock()
			d.write([]byte{byte(tries)}, 4096) // something to read
			frozen[4096] = byte(tries)
			if err := inside(ctx, true); err != nil {
				return nil, err
			}
			return &cycle.Frozen{Consistency: format.Filesystem}, nil
		}
		for range step.before {
			d.write([]byte("written before"), step.at)
		}
		res, err := cycle.Run(t.Context(), conf)
		must(t, err)
		if res.Consistency != step.want || tries != step.tries {
			t.Errorf("%s: %s after %d tries, want %s after %d: %q", step.name, res.Consistency, tries, step.want, step.tries, res.Why)
		}
		if step.want != format.Filesystem && !strings.Contains(strings.Join(res.Why, " "), map[bool]string{true: "a3", false: "a2"}[step.at >= esp]) {
			t.Errorf("%s: nothing says where: %q", step.name, res.Why)
		}
		if step.want != format.Fuzzy {
			w.check(res.Restpoint, frozen)
		}
		w.last = res.Restpoint
	}
}
