package cycle_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// liveDisk is a disk in memory that is written to while it is read, and counts what is read.
type liveDisk struct {
	mu   sync.Mutex // guards the rest
	id   string
	data []byte
	t    *liveTracker
	read int64

	onRead func() // is called once, before the next read
}

func (d *liveDisk) ID() string                                  { return d.id }
func (d *liveDisk) Name() string                                { return d.id }
func (d *liveDisk) Kind() source.Kind                           { return source.Disk }
func (d *liveDisk) Size(context.Context) (int64, error)         { return int64(len(d.data)), nil }
func (d *liveDisk) Open(context.Context) (source.Reader, error) { return liveReader{d}, nil }

type liveReader struct{ d *liveDisk }

func (r liveReader) ReadAt(p []byte, off int64) (int, error) {
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	if f := r.d.onRead; f != nil {
		r.d.onRead = nil
		f()
	}
	n := copy(p, r.d.data[off:])
	r.d.read += int64(n)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
func (r liveReader) Size() int64  { return int64(len(r.d.data)) }
func (r liveReader) Align() int   { return 1 }
func (r liveReader) Close() error { return nil }
func (r liveReader) NextData(off int64) (int64, int64, error) {
	if off >= r.Size() {
		return 0, 0, io.EOF
	}
	return off, r.Size(), nil
}

func (d *liveDisk) write(p []byte, off int64) {
	d.mu.Lock()
	copy(d.data[off:], p)
	d.mu.Unlock()
	d.t.mark(d.id, off, int64(len(p)))
}

// liveTracker does in memory what track.Tracker says.
type liveTracker struct {
	mu              sync.Mutex // guards the rest
	active, pending map[string]*track.Marks
	since, intended string
	flips           int
	lost            error
	disks           []track.Disk
	noSettle        bool
}

const grain = 4096

func (t *liveTracker) mark(disk string, off, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.active[disk]; m != nil {
		m.Add(off, n)
	}
}

func (t *liveTracker) Watch(_ context.Context, disks []track.Disk) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.active == nil {
		t.active, t.pending = map[string]*track.Marks{}, map[string]*track.Marks{}
		for _, d := range disks {
			t.active[d.ID], t.pending[d.ID] = track.NewMarks(d.Size, grain), track.NewMarks(d.Size, grain)
		}
	}
	t.disks = disks
	return nil
}

func (t *liveTracker) Status(string) track.Status { return track.Status{Tracker: "live", Grain: grain} }
func (t *liveTracker) Close() error               { return nil }
func (t *liveTracker) Start(ctx context.Context) (track.Cycle, error) {
	_, err := t.Flip(ctx)
	return liveCycle{t}, err
}

type liveCycle struct{ *liveTracker }

func (liveCycle) Close() {}

func (t *liveTracker) Changed(disk, base string) (*track.Marks, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if base == "" || base != t.since && base != t.intended {
		return nil, "it was not tracked since"
	}
	m := track.NewMarks(t.pending[disk].Size(), grain)
	m.Union(t.pending[disk])
	return m, ""
}

func (t *liveTracker) Flip(context.Context) (map[string]*track.Marks, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flips++
	out := t.active
	t.active = map[string]*track.Marks{}
	for _, d := range t.disks {
		t.pending[d.ID].Union(out[d.ID])
		t.active[d.ID] = track.NewMarks(d.Size, grain)
	}
	return out, t.lost
}

func (t *liveTracker) Intend(restpoint string) error {
	t.intended = restpoint
	return nil
}

func (t *liveTracker) Settle() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.noSettle {
		return errors.New("killed")
	}
	t.since = t.intended
	for _, d := range t.disks {
		t.pending[d.ID] = track.NewMarks(d.Size, grain)
	}
	return nil
}

// TestLiveRestpoints: while disks are written to, each restpoint is what they were at one instant of its freeze, through cycles that fail at
// every step, and only what was written is read.
func TestLiveRestpoints(t *testing.T) {
	w := newWorld(t)
	tracker := &liveTracker{}
	r := rand.New(rand.NewPCG(11, 12))
	var disks []*liveDisk
	var sources []source.Source
	for _, id := range []string{"a", "b"} {
		d := &liveDisk{id: id, data: content(r, 6<<20+grain), t: tracker}
		disks, sources = append(disks, d), append(sources, d)
	}
	var still sync.RWMutex // held for reading by writers
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i, d := range disks {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(13, uint64(i)))
			for {
				select {
				case <-stop:
					return
				case <-time.After(4 * time.Millisecond):
				}
				still.RLock()
				p := content(r, grain*(1+r.IntN(3)))
				if r.IntN(8) == 0 {
					clear(p)
				}
				d.write(p, grain*r.Int64N(int64(len(d.data))/grain/8)) // in an eighth of the disk
				still.RUnlock()
			}
		})
	}
	defer writers.Wait()
	defer close(stop)
	var frozen [][]byte
	freeze := func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
		if err := ahead(ctx); err != nil {
			return nil, err
		}
		time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond) // a file system takes its time to freeze
		still.Lock()
		defer still.Unlock()
		frozen = nil
		for _, d := range disks {
			frozen = append(frozen, bytes.Clone(d.data))
		}
		if err := inside(ctx, true); err != nil {
			return nil, err
		}
		return &cycle.Frozen{Consistency: format.Filesystem, For: time.Millisecond}, nil
	}
	killed := errors.New("killed here")
	for round := range 12 {
		conf := w.config(sources...)
		conf.Tracker = tracker
		conf.Freeze = freeze
		l := conf.Master.(*link)
		switch round % 6 {
		case 1: // the agent dies before the commit
			l.commit = func() error { return killed }
		case 2: // after it, before it hears of it
			l.after = func() error { return killed }
		case 3: // before marks are dropped
			tracker.noSettle = true
		case 4:
			conf.Freeze = func(context.Context, func(context.Context) error, func(context.Context, bool) error) (*cycle.Frozen, error) {
				return nil, killed
			}
		}
		for _, d := range disks {
			d.mu.Lock()
			d.read = 0
			d.mu.Unlock()
		}
		res, err := cycle.Run(t.Context(), conf)
		tracker.noSettle = false
		switch round % 6 {
		case 1, 4:
			if !errors.Is(err, killed) {
				t.Fatalf("round %d: %v", round, err)
			}
			continue
		case 2:
			if !errors.Is(err, killed) {
				t.Fatalf("round %d: %v", round, err)
			}
			m, err := w.catalog.Machine(t.Context(), w.machine.ID)
			must(t, err)
			w.last = m.LastRestpoint
		default:
			must(t, err)
			w.last = res.Restpoint
			if res.Consistency != format.Filesystem {
				t.Errorf("round %d: %s: %v", round, res.Consistency, res.Why)
			}
			if total := int64(12<<20 + 2*grain); res.Stats.Total < total {
				t.Errorf("round %d: total of %d bytes, want at least %d", round, res.Stats.Total, total)
			}
		}
		w.check(w.last, frozen...)
		p, err := w.catalog.Restpoint(t.Context(), w.last)
		must(t, err)
		for i, d := range disks {
			d.mu.Lock()
			read := d.read
			d.mu.Unlock()
			want := "live"
			if round == 0 {
				want = "scan"
			} else if read == 0 || read > 5<<20 {
				t.Errorf("round %d: %d bytes of %d were read", round, read, len(d.data))
			}
			if p.Disks[i].Tracker != want {
				t.Errorf("round %d: tracker %q", round, p.Disks[i].Tracker)
			}
		}
	}
}

// TestFuzzyKeepsMarks: what was written during a cycle that could not freeze is read by the next one at the latest.
func TestFuzzyKeepsMarks(t *testing.T) {
	w := newWorld(t)
	tracker := &liveTracker{}
	r := rand.New(rand.NewPCG(17, 18))
	d := &liveDisk{id: "a", data: content(r, 40*chunker.MinSize), t: tracker}
	tooLong := func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
		d.write([]byte("written while it converges"), grain*r.Int64N(40*chunker.MinSize/grain))
		if r.IntN(2) == 0 {
			return nil, cycle.ErrNotFrozen
		}
		return nil, context.DeadlineExceeded
	}
	for round := range 6 {
		conf := w.config(d)
		conf.Tracker = tracker
		if round%2 == 1 {
			conf.Freeze = tooLong
		}
		d.write([]byte{byte(round)}, grain*r.Int64N(40*chunker.MinSize/grain))
		res, err := cycle.Run(t.Context(), conf)
		must(t, err)
		if res.Consistency != format.Fuzzy || len(res.Why) == 0 {
			t.Errorf("round %d: %s, %q", round, res.Consistency, res.Why)
		}
		w.last = res.Restpoint
	}
	conf := w.config(d)
	conf.Tracker = tracker
	res, err := cycle.Run(t.Context(), conf)
	must(t, err)
	w.check(res.Restpoint, d.data)
}

// TestLostTracking: a cycle during which the tracker lost sight makes no restpoint.
func TestLostTracking(t *testing.T) {
	w := newWorld(t)
	tracker := &liveTracker{}
	d := &liveDisk{id: "a", data: content(rand.New(rand.NewPCG(19, 20)), 1<<20), t: tracker}
	conf := w.config(d)
	conf.Tracker = tracker
	conf.Freeze = func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
		tracker.lost = track.ErrLost
		return &cycle.Frozen{Consistency: format.Filesystem}, inside(ctx, true)
	}
	if _, err := cycle.Run(t.Context(), conf); !errors.Is(err, track.ErrLost) {
		t.Fatalf("got %v", err)
	}
}

// TestTooMuchToFreeze: more than fits into memory is read by passes.
func TestTooMuchToFreeze(t *testing.T) {
	w := newWorld(t)
	tracker := &liveTracker{}
	r := rand.New(rand.NewPCG(21, 22))
	d := &liveDisk{id: "a", data: content(r, 80<<20), t: tracker}
	var frozen []byte
	tries := 0
	conf := w.config(d)
	conf.Tracker = tracker
	conf.Freeze = func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
		if tries++; tries == 1 {
			d.write(content(r, 78<<20), 1<<20)
		} else {
			d.write(content(r, 20<<20), 3<<20)
		}
		frozen = bytes.Clone(d.data)
		if err := inside(ctx, true); err != nil {
			return nil, err
		}
		return &cycle.Frozen{Consistency: format.Crash}, nil
	}
	res, err := cycle.Run(t.Context(), conf)
	must(t, err)
	if tries != 2 || res.Passes != 2 || res.Consistency != format.Crash {
		t.Errorf("%d tries, %d passes, %s: %q", tries, res.Passes, res.Consistency, res.Why)
	}
	w.check(res.Restpoint, frozen)
}

// TestProvenStill: where not everything can be frozen, a restpoint is of one instant if nothing was written while it was read.
func TestProvenStill(t *testing.T) {
	w := newWorld(t)
	tracker := &liveTracker{}
	r := rand.New(rand.NewPCG(23, 24))
	d := &liveDisk{id: "a", data: content(r, 4<<20), t: tracker}
	tries := 0
	conf := w.config(d)
	conf.Tracker = tracker
	conf.Freeze = func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
		tries++
		d.mu.Lock()
		if tries < 3 {
			d.onRead = func() {
				copy(d.data[5*grain:], "written meanwhile")
				tracker.mark("a", 5*grain, 17)
			}
		}
		d.mu.Unlock()
		d.write([]byte{byte(tries)}, 1<<20) // something to read
		err := inside(ctx, false)
		return &cycle.Frozen{Consistency: format.Crash}, err
	}
	res, err := cycle.Run(t.Context(), conf)
	must(t, err)
	if tries != 3 || res.Consistency != format.Crash {
		t.Errorf("%d tries, %s: %q", tries, res.Consistency, res.Why)
	}
	w.check(res.Restpoint, d.data)
}
