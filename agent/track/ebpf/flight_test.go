package ebpf_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
)

// slowDisk is a disk whose file lies on a file system of its own: while that is frozen, writes to the disk are on their way.
func slowDisk(t *testing.T) (d track.Disk, dir string) {
	t.Helper()
	dir = mount(t, "ext4", loop(t, 64<<20).Path)
	file := filepath.Join(dir, "disk")
	if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	dev := run(t, "losetup", "-f", "--show", file)
	cleanup(t, "losetup", "-d", dev)
	return track.Disk{ID: "slow", Path: dev, Size: size}, dir
}

// inFlight is a write that has begun.
type inFlight struct {
	thaw func() // of the file system below
	done chan error
}

// land lets it go on.
func (f *inFlight) land(t *testing.T) {
	t.Helper()
	defer f.thaw()
	select {
	case err := <-f.done:
		t.Errorf("the write did not wait: %v", err)
		f.done <- err
	default:
	}
}

// wait returns when the write has completed.
func (f *inFlight) wait(t *testing.T) {
	t.Helper()
	if err := <-f.done; err != nil {
		t.Fatal(err)
	}
}

// launch begins to write the block at off and returns when it is marked in the epoch that is now, and has not reached the disk.
func launch(t *testing.T, c track.Cycle, d track.Disk, dir string, off int64) *inFlight {
	t.Helper()
	fd, err := unix.Open(d.Path, unix.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	buf, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	f := &inFlight{thaw: freeze(t, dir), done: make(chan error, 1)}
	go func() {
		_, err := unix.Pwrite(fd, buf, off)
		f.done <- errors.Join(err, unix.Munmap(buf), unix.Close(fd))
	}()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		m, err := c.(track.Peeker).Peek()
		if err == nil && marked(m[d.ID], off/4096) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			f.thaw()
			t.Fatalf("the write does not begin: %v", err)
		}
	}
	return f
}

func flip(t *testing.T, c track.Cycle, d track.Disk) *track.Marks {
	t.Helper()
	m, err := c.Flip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m[d.ID]
}

// TestInFlight: a write that is queued in one epoch and lands in the next is marked in both.
func TestInFlight(t *testing.T) {
	d, dir := slowDisk(t)
	tr := settled(t, instance(t), d)
	defer func() { _ = tr.Close() }()
	c := begin(t, tr, d)
	w := launch(t, c, d, dir, 8192)
	first := flip(t, c, d)
	between := flip(t, c, d)
	w.land(t)
	w.wait(t)
	last := flip(t, c, d)
	if !marked(first, 2) || between.Bytes() != 0 || !marked(last, 2) || last.Bytes() != 4096 {
		t.Errorf("when it was queued: %v, on its way: %d bytes, when it completed: %v, %d bytes", marked(first, 2), between.Bytes(), marked(last, 2), last.Bytes())
	}
}

// held begins a write, ends the epoch in which it was queued, and has the program that sees it complete stopped between reading the epoch and setting the bit.
func held(t *testing.T, tr track.Tracker, c track.Cycle, d track.Disk, dir string, before func(), long time.Duration) *inFlight {
	t.Helper()
	h, err := ebpf.HolderOf(tr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	w := launch(t, c, d, dir, 8192)
	if !marked(flip(t, c, d), 2) {
		t.Error("the write is not marked when it is queued")
	}
	before()
	err = h.Hold(long)
	w.land(t)
	for deadline := time.Now().Add(10 * time.Second); err == nil; <-time.After(100 * time.Microsecond) {
		var in bool
		if in, err = h.Inside(); in {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no program is held")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestFlipWaits: a program that has read the old epoch sets its bit before that epoch's marks are read. The write is on the disk by then, so its
// mark may be in no later epoch only.
func TestFlipWaits(t *testing.T) {
	defer ebpf.UseHeld()()
	d, dir := slowDisk(t)
	tr := settled(t, instance(t), d)
	defer func() { _ = tr.Close() }()
	c := begin(t, tr, d)
	w := held(t, tr, c, d, dir, func() {}, 300*time.Millisecond)
	m := flip(t, c, d)
	w.wait(t)
	if !marked(m, 2) {
		t.Errorf("a write that completed before the flip is not among its marks, which are %d bytes", m.Bytes())
	}
}

// TestOpenWaits: the same with an agent that dies in the flip, before it waits, and another that goes on.
func TestOpenWaits(t *testing.T) {
	defer ebpf.UseHeld()()
	d, dir := slowDisk(t)
	opts := instance(t)
	tr := settled(t, opts, d)
	c := begin(t, tr, d)
	w := held(t, tr, c, d, dir, func() {
		if err := errors.Join(c.Intend("point"), c.Settle()); err != nil {
			t.Fatal(err)
		}
	}, 3*time.Second)
	ebpf.HalfFlip(tr)
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	tr = openTracker(t, opts)
	defer func() { _ = tr.Close() }()
	m, why := begin(t, tr, d).Changed(d.ID, "point")
	w.wait(t)
	if m == nil || !marked(m, 2) {
		t.Errorf("a write that completed before an agent died is not marked for the next: %s", why)
	}
}
