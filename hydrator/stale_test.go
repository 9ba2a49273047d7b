package hydrator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/wire"
)

// A job that two nodes were given is done by one. The one that had it first and slept may neither write while the other does nor after it: not a byte, and not
// in its journal.
func TestStaleNode(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(90, 20, 0)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	folder := t.TempDir()
	size := int64(len(img))
	path := raw(t, folder, "disk.raw", size)
	stale, next := testNode(t, w, folder), testNode(t, w, folder)
	client := &fickle{World: w}
	stale.o.Client = client
	vol := wire.Volume{ID: "v", Path: path, Size: size}

	// While one of them has it, the other waits.
	v, _, err := stale.openVolume("p", &vol)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := next.work(t.Context(), onto(w, rp, vol), func(wire.Progress) {})
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("two writers at once: %v", err)
	case <-time.After(3 * writerPause):
	}
	if !hole(t, path) {
		t.Error("it was written to")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, img)

	// The machine has started, and written. Whoever comes late finds the volume free, and the job somebody else's.
	client.lost.Store(true)
	changed := append([]byte("of the machine"), img[14:]...)
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := stale.work(t.Context(), onto(w, rp, vol), func(wire.Progress) {}); !errors.Is(err, errLeaseLost) {
		t.Errorf("hydrate: %v, want errLeaseLost", err)
	}
	convert := &wire.Job{ID: "c", Kind: wire.JobConvert, Provider: "p", Volumes: []wire.Volume{vol}, Convert: &wire.Conversion{Platform: "kvm"}}
	if _, err := stale.work(t.Context(), convert, func(wire.Progress) {}); !errors.Is(err, errLeaseLost) {
		t.Errorf("convert: %v, want errLeaseLost", err)
	}
	mustHold(t, path, changed)
	if _, err := os.Stat(filepath.Join(stale.o.DataDir, "journals")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node that slept has a journal: %v", err)
	}
	// One that was cancelled meanwhile is no better.
	client.lost.Store(false)
	w.Cancel("c")
	if _, err := stale.work(t.Context(), convert, func(wire.Progress) {}); !errors.Is(err, ErrCancelled) {
		t.Errorf("cancelled: %v", err)
	}
	if v, _, err = stale.openVolume("p", &vol); err != nil {
		t.Errorf("it is still locked: %v", err)
	} else if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// hole reports whether a file has no data.
func hole(t *testing.T, path string) bool {
	t.Helper()
	n, err := allocated(path)
	if err != nil {
		t.Fatal(err)
	}
	return n == 0
}

// Journals of volumes that may be gone for long do not fill the disk.
func TestForgetJournals(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	n := testNode(t, w, t.TempDir())
	if err := os.MkdirAll(n.journals(), 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	name := func(i int) string { return filepath.Join(n.journals(), fmt.Sprintf("vol-%d.omjournal", i)) }
	for i := range keepJournals + 10 {
		if err := os.WriteFile(name(i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name(i), now, now.Add(-time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(n.journals(), "notes")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.makeRun(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(n.journals())
	if err != nil || len(entries) != keepJournals+1 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
	for path, there := range map[string]bool{name(0): true, name(keepJournals - 1): true, name(keepJournals): false, name(keepJournals + 9): false, other: true} {
		if _, err := os.Stat(path); (err == nil) != there {
			t.Errorf("%s: %v", path, err)
		}
	}
}
