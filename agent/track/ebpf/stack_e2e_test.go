//go:build e2e

package ebpf_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/agent/track/tracktest"
)

// These run inside the machines of e2e/vm, which say by the environment what they have. All of it is overwritten.
const (
	disksEnv      = "OPENMIGRATE_TEST_DISKS"       // whole disks, with a comma between
	topEnv        = "OPENMIGRATE_TEST_TOP"         // the device for a file system: a partition, volume or array on the disks
	fileSystemEnv = "OPENMIGRATE_TEST_FILE_SYSTEM" // what is made there
	expectEnv     = "OPENMIGRATE_TEST_EXPECT"      // what TestReturn finds: "marks" or "scan"
)

// arrayHead is where an md array keeps what it writes by itself, also on a frozen file system: superblock and bitmap.
const arrayHead = 1 << 20

func fromEnv(t *testing.T, name string) string {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		t.Fatalf("%s is not set: this test runs in a machine of e2e/vm", name)
	}
	return s
}

func disksFromEnv(t *testing.T) []track.Disk {
	t.Helper()
	var disks []track.Disk
	for _, path := range strings.Split(fromEnv(t, disksEnv), ",") {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Seek(0, io.SeekEnd)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		disks = append(disks, track.Disk{ID: "disk-" + filepath.Base(path), Path: path, Size: size})
	}
	return disks
}

// TestDisks runs the conformance suite on each disk.
func TestDisks(t *testing.T) {
	for _, d := range disksFromEnv(t) {
		t.Run(filepath.Base(d.Path), func(t *testing.T) {
			opts := instance(t)
			// Held open: when a writer of a whole disk closes it udev asks for its partitions, for which Linux 6.1 sends a SCSI disk
			// TEST UNIT READY, a command without data, which loses the disk.
			fd, err := unix.Open(d.Path, unix.O_WRONLY|unix.O_DIRECT, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Close(fd) }()
			tracktest.Run(t, tracktest.Subject{
				Open:  func() track.Tracker { return openTracker(t, opts) },
				Disk:  d,
				Write: func(off int64) { writeBlock(t, fd, off) },
				Marks: true,
			})
		})
	}
}

// TestStack tortures a file system on what is built of the disks, which are tracked below.
func TestStack(t *testing.T) {
	disks, top := disksFromEnv(t), fromEnv(t, topEnv)
	tr := openTracker(t, instance(t))
	defer func() { _ = tr.Close() }()
	dir := mount(t, fromEnv(t, fileSystemEnv), top)
	if err := tr.Watch(t.Context(), disks); err != nil {
		t.Fatal(err)
	}
	c, err := tr.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	verifiers := make([]verifier, len(disks))
	// flip ends an epoch and looks at each disk.
	flip := func(look func(i int, after image, marks *track.Marks)) {
		thaw := freeze(t, dir)
		defer thaw()
		marks, err := c.Flip(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range disks {
			look(i, read(t, d, tr.Status(d.ID).Grain), marks[d.ID])
		}
	}
	flip(func(i int, after image, _ *track.Marks) {
		verifiers[i].before = after
		if strings.HasPrefix(filepath.Base(top), "md") {
			verifiers[i].head = arrayHead
		}
	})
	startWriters(t, dir)
	n := epochs(t)
	for range n {
		<-interval()
		flip(func(i int, after image, marks *track.Marks) { verifiers[i].check(t, after, marks) })
	}
	for i, v := range verifiers {
		t.Logf("%s on %s, disk %s", os.Getenv(fileSystemEnv), top, disks[i].Path)
		v.report(t, n)
		if v.changed == 0 {
			t.Errorf("nothing changed on %s", disks[i].Path)
		}
	}
}

// left is the tracker that TestLeave leaves behind.
var left = ebpf.Options{Instance: "test-left"}

// TestLeave ends with a tracker that marks on, as an agent that is stopped.
func TestLeave(t *testing.T) {
	if err := ebpf.Remove(left); err != nil {
		t.Fatal(err)
	}
	if err := settled(t, left, disksFromEnv(t)[0]).Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReturn takes over what TestLeave left in another process, after the disk's block 2 was written or the machine restarted.
func TestReturn(t *testing.T) {
	d := disksFromEnv(t)[0]
	tr := openTracker(t, left)
	defer func() { _ = tr.Close() }()
	marks, why := begin(t, tr, d).Changed(d.ID, "base") // as settled calls it
	var got error
	switch expect := fromEnv(t, expectEnv); {
	case expect == "scan" && marks == nil && strings.Contains(why, "restarted"):
	case expect == "marks" && marks != nil && marked(marks, 2) && marks.Bytes() == 4096:
	case marks != nil:
		got = fmt.Errorf("%d bytes are marked", marks.Bytes())
	default:
		got = fmt.Errorf("scan: %s", why)
	}
	if got != nil {
		t.Errorf("expected %s: %v", os.Getenv(expectEnv), got)
	}
}
