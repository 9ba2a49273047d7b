package cycle_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/staging/format"
)

// tree is what the files below a directory hold, and when they were written.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all.WriteString(path)
		all.Write(b)
		return err
	}))
	return all.String()
}

// TestHold: of a disk that is written to until its freeze a restpoint is made within the freeze, without a write to the state directory, and the next cycle
// goes on from it. Rounds die at each step; the next one builds on what there is.
func TestHold(t *testing.T) {
	w := newWorld(t)
	tracker := &liveTracker{}
	r := rand.New(rand.NewPCG(31, 32))
	d := &liveDisk{id: "a", data: content(r, 12<<20+grain), t: tracker}
	write := func() {
		for range 12 {
			d.write(content(r, grain*(1+r.IntN(3))), grain*r.Int64N(int64(len(d.data))/grain-3))
		}
	}
	killed := errors.New("killed here")
	for round, c := range []string{"first", "plain", "held", "plain", "not frozen", "commit fails", "held", "died while held", "plain", "too late", "held", "plain"} {
		write()
		before, frozen := "", []byte(nil)
		conf := w.config(d)
		conf.Tracker, conf.Blocks = tracker, w.blocks
		conf.Freeze = func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
			frozen = bytes.Clone(d.data)
			return &cycle.Frozen{Consistency: format.Crash}, inside(ctx, true)
		}
		l := conf.Master.(*link)
		calls := 0
		hold := &cycle.Hold{Freeze: func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, cycle.Frozen) error) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			write()
			if c == "not frozen" {
				return cycle.ErrNotFrozen
			}
			if calls++; calls == 1 {
				return context.DeadlineExceeded // another pass, and another try
			}
			if err := ahead(ctx); err != nil {
				return err
			}
			if c == "too late" {
				l.commit = func() error { cancel(); return context.Canceled }
			}
			frozen, before = bytes.Clone(d.data), tree(t, w.dirPath)
			err := inside(ctx, cycle.Frozen{Consistency: format.Filesystem, Why: "no hook"})
			if after := tree(t, w.dirPath); after != before {
				t.Errorf("round %d, %s: the state directory was written to while it was frozen", round, c)
			}
			return err
		}}
		var told *cycle.Result
		hold.Held = func(_ context.Context, res *cycle.Result) { told = res }
		if c != "plain" && c != "first" {
			conf.Hold = hold
		}
		if c == "commit fails" {
			l.commit = func() error { return killed }
		}
		saved := t.TempDir()
		if tracker.noSettle = c == "died while held"; tracker.noSettle {
			must(t, os.CopyFS(saved, os.DirFS(w.dirPath)))
		}
		res, err := cycle.Run(t.Context(), conf)
		switch c {
		case "not frozen":
			if !errors.Is(err, cycle.ErrNotFrozen) {
				t.Errorf("round %d, %s: %v", round, c, err)
			}
			continue
		case "commit fails", "too late":
			if !errors.Is(err, killed) && !errors.Is(err, context.Canceled) {
				t.Errorf("round %d, %s: %v", round, c, err)
			}
			continue
		}
		must(t, err)
		w.check(res.Restpoint, frozen)
		p, err := w.catalog.Restpoint(t.Context(), res.Restpoint)
		must(t, err)
		if want := map[bool]string{true: "scan", false: "live"}[round == 0]; p.Disks[0].Tracker != want {
			t.Errorf("round %d, %s: by %s", round, c, p.Disks[0].Tracker)
		}
		if conf.Hold != nil && (told != res || res.Consistency != format.Filesystem || calls != 2) {
			t.Errorf("round %d, %s: told %+v, %d freezes", round, c, told, calls)
		}
		if round > 0 && res.Stats.Sent > 6<<20 {
			t.Errorf("round %d, %s: %d bytes were sent", round, c, res.Stats.Sent)
		}
		if tracker.noSettle { // as a kill leaves it; whoever starts again goes on from the base that there is
			w.blocks.Close()
			must(t, w.dir.Close())
			must(t, os.RemoveAll(w.dirPath))
			must(t, os.CopyFS(w.dirPath, os.DirFS(saved)))
			w.dir = nil
			w.reopen()
			continue
		}
		w.last = res.Restpoint
	}
}
