package hydrator

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/volume"
)

// loop is a block device of that many bytes, full of something in its middle.
func loop(t *testing.T, size int) *sourcetest.LoopDevice {
	t.Helper()
	b := make([]byte, size)
	for i := 2 << 20; i < size-2<<20; i++ {
		b[i] = 0xDD
	}
	p := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return sourcetest.NewLoopDevice(t, p, sourcetest.LoopOptions{})
}

func TestRestoreOntoDevice(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	w := hydratortest.NewWorld(t, nil)
	first := image(50, 160, 0)
	second := changed(51, first, 10)
	grown := append(bytes.Clone(second), make([]byte, 40*testChunk)...) // zeros where the device has junk
	odd := first[:100*testChunk+1536]
	images := [][]byte{first, second, grown, odd, grown}
	d := loop(t, 16<<20)
	o := restoreOptions{journal: filepath.Join(t.TempDir(), "device"), batch: 32}
	for i, img := range images {
		rp := w.Replicate(t, "r"+string(rune('0'+i)), hydratortest.Image{Data: img})
		res := mustRestore(t, w, rp, d.Path, img, o)
		if i == 1 && res.Written > 12*testChunk {
			t.Errorf("a difference of 10 chunks wrote %d bytes", res.Written)
		}
	}
	// A device that was attached anew may hold anything.
	if err := d.Reattach(d.File); err != nil {
		t.Fatal(err)
	}
	rp := w.Replicate(t, "again", hydratortest.Image{Data: first})
	if _, err := restoreTo(t, w, rp, d.Path, o); !errors.Is(err, volume.ErrNotEmpty) {
		t.Errorf("%v, want ErrNotEmpty", err)
	}
	o.verify = true
	mustRestore(t, w, rp, d.Path, first, o)
}

func TestDeviceRefusals(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	w := hydratortest.NewWorld(t, nil)
	img := image(52, 100, 0)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	dir := t.TempDir()
	small := loop(t, 6<<20)
	if _, err := restoreTo(t, w, rp, small.Path, restoreOptions{journal: filepath.Join(dir, "small"), overwrite: true}); !errors.Is(err, volume.ErrTooSmall) {
		t.Errorf("%v, want ErrTooSmall", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "small")); err == nil {
		t.Error("a journal was written for a device that is too small")
	}
	d := loop(t, 8<<20)
	if err := os.WriteFile(d.Path, []byte("something"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := restoreOptions{journal: filepath.Join(dir, "full")}
	if _, err := restoreTo(t, w, rp, d.Path, restoreOptions{}); err == nil {
		t.Error("a device was written without a journal")
	}
	if _, err := restoreTo(t, w, rp, d.Path, o); !errors.Is(err, volume.ErrNotEmpty) {
		t.Errorf("%v, want ErrNotEmpty", err)
	}
	o.overwrite = true
	mustRestore(t, w, rp, d.Path, img, o)
}

func TestCrashOnDevice(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	w := hydratortest.NewWorld(t, nil)
	old := image(53, 70, 0)
	next := changed(54, append(bytes.Clone(old), image(55, 10, 0)...), 20)
	rps := []*hydratortest.Replicated{w.Replicate(t, "old", hydratortest.Image{Data: old}), w.Replicate(t, "next", hydratortest.Image{Data: next})}
	d := loop(t, 8<<20)
	o := restoreOptions{journal: filepath.Join(t.TempDir(), "device"), batch: 4, every: 2 * testChunk}
	for steps := 0; steps < 60; steps += 3 {
		mustRestore(t, w, rps[0], d.Path, old, o)
		c := o
		c.wrap = crashAt(&countdown{left: steps, after: steps%2 == 0})
		if _, err := restoreTo(t, w, rps[1], d.Path, c); err != nil && !errors.Is(err, errCrash) {
			t.Fatalf("step %d: %v", steps, err)
		}
		if steps%2 == 0 {
			mustRestore(t, w, rps[1], d.Path, next, o)
		}
	}
}
