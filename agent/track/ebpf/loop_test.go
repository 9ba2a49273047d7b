package ebpf_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// cleanup runs a command when t's context has ended already.
func cleanup(t testing.TB, name string, args ...string) {
	t.Cleanup(func() {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Errorf("%s %v: %v\n%s", name, args, err, out)
		}
	})
}

// loop attaches a sparse file of size bytes.
func loop(t testing.TB, size int64) track.Disk {
	t.Helper()
	roottest.Need(t, "eBPF and loop devices")
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	dev := run(t, "losetup", "-f", "--show", file)
	cleanup(t, "losetup", "-d", dev)
	return track.Disk{ID: "disk-" + filepath.Base(dev), Path: dev, Size: size}
}

func mount(t testing.TB, fs, dev string) string {
	t.Helper()
	args := map[string][]string{"ext4": {"-q", "-F", "-b", "4096"}, "xfs": {"-q", "-f"}, "btrfs": {"-q", "-f"}}[fs]
	run(t, "mkfs."+fs, append(args, dev)...)
	dir := t.TempDir()
	run(t, "mount", dev, dir)
	// The kernel takes a dead process's io_uring apart later, and tells nobody when it has.
	t.Cleanup(func() {
		var out []byte
		var err error
		for range 100 {
			if out, err = exec.Command("umount", dir).CombinedOutput(); err == nil {
				return
			}
			<-time.After(50 * time.Millisecond)
		}
		t.Errorf("umount %s: %v\n%s", dir, err, out)
	})
	return dir
}

// instance is a name for a tracker whose pins go when the test ends.
func instance(t testing.TB) ebpf.Options {
	t.Helper()
	roottest.Need(t, "eBPF and loop devices")
	opts := ebpf.Options{Instance: fmt.Sprintf("test-%d-%s", os.Getpid(), strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))}
	t.Cleanup(func() {
		if err := ebpf.Remove(opts); err != nil {
			t.Error(err)
		}
	})
	return opts
}

func openTracker(t testing.TB, opts ebpf.Options) track.Tracker {
	t.Helper()
	tr, err := ebpf.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

const freezeCall, thawCall = 0xc0045877, 0xc0045878 // FIFREEZE and FITHAW of linux/fs.h

func freeze(t testing.TB, dir string) (thaw func()) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(fd, freezeCall, 0); err != nil {
		t.Fatalf("freeze %s: %v", dir, err)
	}
	return func() {
		if err := unix.IoctlSetInt(fd, thawCall, 0); err != nil {
			t.Errorf("thaw %s: %v", dir, err)
		}
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}
}

// image is the hash of each grain of a disk; zero grains have hash 0.
type image struct {
	grain int64
	sums  []uint64
}

// read hashes a disk, past the page cache.
func read(t testing.TB, d track.Disk, grain int64) image {
	t.Helper()
	fd, err := unix.Open(d.Path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	buf, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(buf) }()
	zero := make([]byte, grain)
	out := image{grain: grain, sums: make([]uint64, (d.Size+grain-1)/grain)}
	for off := int64(0); off < d.Size; {
		n, err := unix.Pread(fd, buf, off)
		if err != nil || n == 0 || int64(n)%grain != 0 && off+int64(n) != d.Size {
			t.Fatalf("read %s at %d: %d bytes, %v", d.Path, off, n, err)
		}
		for i := int64(0); i < int64(n); i += grain {
			b := buf[i:min(i+grain, int64(n))]
			if !bytes.Equal(b, zero[:len(b)]) {
				out.sums[(off+i)/grain] = sum(b)
			}
		}
		off += int64(n)
	}
	return out
}

// changed are the grains that differ from the image before.
func (m image) changed(before image) []int64 {
	var out []int64
	for i, s := range m.sums {
		if s != before.sums[i] {
			out = append(out, int64(i))
		}
	}
	return out
}

func marked(m *track.Marks, grain int64) bool {
	return m.Word(int(grain/64))>>(grain%64)&1 == 1
}
