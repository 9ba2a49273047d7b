package cycle_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
	"github.com/openmigrate/openmigrate/staging/format"
)

// TestSnapshots: what is restored is what the snapshot held, whatever is written to the disk meanwhile; the restpoint says what the snapshot was
// good for; and the snapshot is given up once, after the last read and before the commit, also when it was lost.
func TestSnapshots(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(21, 22))
	const size = 5 << 20
	disk := sourcetest.NewMemory("vg-data", content(r, size))
	closed := 0
	var at time.Time
	lost := fmt.Errorf("%w: it overflowed", source.ErrLost)
	var check error
	take := func(n int) cycle.Snapshot {
		return func(ctx context.Context) (*cycle.Snapshots, error) {
			at = time.Now()
			reader, err := sourcetest.NewMemory("snapshot", disk.Bytes()[:n]).Open(ctx)
			if err != nil {
				return nil, err
			}
			if _, err := disk.WriteAt(content(r, size/2), 0); err != nil { // which is not of the instant
				return nil, err
			}
			return &cycle.Snapshots{
				Frozen: cycle.Frozen{Consistency: format.Crash, Why: "a disk of two is", For: time.Millisecond}, Time: at,
				Readers: map[string]source.Reader{disk.ID(): reader}, Each: map[string]format.Consistency{disk.ID(): format.Filesystem},
				Check: func(context.Context) error { return check },
				Close: func() { closed++; _ = reader.Close() },
			}, nil
		}
	}
	for round := range 3 {
		want := disk.Bytes()
		conf := w.config(disk)
		conf.Snapshot = take(size)
		conf.Master.(*link).commit = func() error {
			if closed != round+1 {
				t.Errorf("round %d: %d were given up before the commit", round, closed)
			}
			return nil
		}
		res, err := cycle.Run(t.Context(), conf)
		must(t, err)
		w.last = res.Restpoint
		if res.Consistency != format.Crash || res.Frozen != time.Millisecond || len(res.Disks) != 1 || res.Disks[0].Consistency != format.Filesystem {
			t.Errorf("round %d: %+v", round, res)
		}
		if p, err := w.catalog.Restpoint(t.Context(), res.Restpoint); err != nil || !p.Created.Equal(at) {
			t.Errorf("round %d: of %v, want %v: %v", round, p.Created, at, err)
		}
		w.check(res.Restpoint, want)
	}
	for what, c := range map[string]struct {
		check error
		size  int
		says  string
	}{
		"lost":         {lost, size, "it overflowed"},
		"not told":     {errors.New("dmsetup is gone"), size, "dmsetup is gone"},
		"another size": {nil, size - 4096, "size changed"},
	} {
		closed, check = 0, c.check
		conf := w.config(disk)
		conf.Snapshot = take(c.size)
		conf.Master.(*link).commit = func() error { t.Errorf("%s: it was committed", what); return nil }
		_, err := cycle.Run(t.Context(), conf)
		if err == nil || !strings.Contains(err.Error(), c.says) || closed != 1 {
			t.Errorf("%s: %v, given up %d times", what, err, closed)
		}
		if e := cycle.EventOf(err); errors.Is(c.check, source.ErrLost) && (e == nil || e.Code != "snapshot-lost") {
			t.Errorf("%s: event %+v", what, e)
		}
	}
	// No snapshot: as without them, and the reason is told.
	conf := w.config(disk)
	conf.Snapshot = func(context.Context) (*cycle.Snapshots, error) {
		return nil, fmt.Errorf("%w: the group is full", cycle.ErrNotFrozen)
	}
	res, err := cycle.Run(t.Context(), conf)
	must(t, err)
	if res.Consistency != format.Fuzzy || !strings.Contains(res.Disks[0].ConsistencyWhy, "the group is full") {
		t.Errorf("without one: %+v", res)
	}
	w.check(res.Restpoint, disk.Bytes())
}
