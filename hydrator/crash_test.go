package hydrator

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/volume"
)

var errCrash = errors.New("crash")

// countdown lets some steps through, the next one half or, with after, whole, and none from then on.
type countdown struct {
	mu    sync.Mutex
	left  int
	after bool
	blown bool
}

// step returns how the step ends: done, or torn.
func (f *countdown) step() (do bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blown {
		return false, errCrash
	}
	if f.left--; f.left >= 0 {
		return true, nil
	}
	f.blown = true
	return f.after, errCrash
}

type crashTarget struct {
	target
	f *countdown
}

func (c crashTarget) WriteAt(b []byte, off int64) (int, error) {
	do, err := c.f.step()
	if err == nil {
		return c.target.WriteAt(b, off)
	}
	if do { // torn: the first half is new
		_, _ = c.target.WriteAt(b[:len(b)/2], off)
	}
	return 0, err
}

func (c crashTarget) Zero(off, n int64) error {
	do, err := c.f.step()
	if err == nil {
		return c.target.Zero(off, n)
	}
	if do {
		_ = c.target.Zero(off, n/2)
	}
	return err
}

func (c crashTarget) SetSize(n int64) error {
	return c.run(func() error { return c.target.SetSize(n) })
}
func (c crashTarget) Sync() error { return c.run(c.target.Sync) }

func (c crashTarget) run(fn func() error) error { return crash(c.f, fn) }

func crash(f *countdown, fn func() error) error {
	do, err := f.step()
	if do {
		if ferr := fn(); ferr != nil {
			return ferr
		}
	}
	return err
}

type crashLedger struct {
	ledger
	f *countdown
}

func (c crashLedger) Begin(v volume.Identity, to journal.Content, unknown bool) error {
	return crash(c.f, func() error { return c.ledger.Begin(v, to, unknown) })
}

func (c crashLedger) BeginFresh(v volume.Identity, to journal.Content) error {
	return crash(c.f, func() error { return c.ledger.BeginFresh(v, to) })
}

func (c crashLedger) Advance(done int64) error {
	return crash(c.f, func() error { return c.ledger.Advance(done) })
}

func (c crashLedger) Finish(v volume.Identity) error {
	return crash(c.f, func() error { return c.ledger.Finish(v) })
}

func crashAt(f *countdown) func(target, ledger) (target, ledger) {
	return func(t target, l ledger) (target, ledger) { return crashTarget{t, f}, crashLedger{l, f} }
}

// After a crash at any step, restoring what was being restored, what was there before, or something else gives exactly that, and
// an interrupted run can itself be interrupted.
func TestCrashAtEveryStep(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	old := image(20, 24, 100)
	next := changed(21, append(bytes.Clone(old), image(22, 6, 50)...), 12)
	other := changed(23, old[:20*testChunk+7], 8)
	images := [][]byte{old, next, other}
	var rps []*hydratortest.Replicated
	for i, img := range images {
		rps = append(rps, w.Replicate(t, fmt.Sprintf("r%d", i), hydratortest.Image{Data: img}))
	}
	small := restoreOptions{batch: 4, every: 2 * testChunk}
	for start, stride := range map[string]int{"fresh": 3, "old": 1, "foreign": 3} {
		for _, after := range []bool{false, true} {
			steps := 0
			for done := false; !done; steps += stride {
				path := filepath.Join(t.TempDir(), "disk.raw")
				o := small
				switch start {
				case "old":
					mustRestore(t, w, rps[0], path, old, small)
				case "foreign":
					o.overwrite = true
					if err := os.WriteFile(path, bytes.Repeat([]byte{0xAB}, len(old)+5*testChunk), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				f := &countdown{left: steps, after: after}
				o.wrap = crashAt(f)
				_, err := restoreTo(t, w, rps[1], path, o)
				if done = err == nil; !done && !errors.Is(err, errCrash) {
					t.Fatalf("%s, step %d: %v", start, steps, err)
				}
				last := 1 // every other time just the same again
				if steps%2 == 1 {
					// Crash once more, some steps later and for another root, then let it end.
					last = steps % 3
					o.wrap = crashAt(&countdown{left: steps % 7, after: !after})
					if _, err := restoreTo(t, w, rps[(steps+1)%3], path, o); err != nil && !errors.Is(err, errCrash) {
						t.Fatalf("%s, step %d, second run: %v", start, steps, err)
					}
				}
				o.wrap = nil
				mustRestore(t, w, rps[last], path, images[last], o)
				if st, err := os.Stat(path); err != nil || st.Size() != int64(len(images[last])) {
					t.Fatalf("%s, step %d: size %d, %v", start, steps, st.Size(), err)
				}
			}
			if steps < 12 {
				t.Errorf("%s: only %d steps: the faults are not where they should be", start, steps)
			}
		}
	}
}

// A run that was interrupted late does not start over.
func TestResumeKeepsProgress(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(24, 400, 0)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	path := filepath.Join(t.TempDir(), "disk.raw")
	all := mustRestore(t, w, rp, filepath.Join(t.TempDir(), "whole"), img, restoreOptions{})
	o := restoreOptions{batch: 8, every: 8 * testChunk, wrap: crashAt(&countdown{left: int(all.Chunks)})}
	if _, err := restoreTo(t, w, rp, path, o); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	o.wrap = nil
	res := mustRestore(t, w, rp, path, img, o)
	if res.Chunks > all.Chunks*3/4 {
		t.Errorf("the second run wrote %d of %d chunks", res.Chunks, all.Chunks)
	}
}
