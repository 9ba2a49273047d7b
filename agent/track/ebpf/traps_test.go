package ebpf_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// ranges are what is marked.
func ranges(m *track.Marks) (out [][2]int64) {
	for off := int64(0); ; {
		start, end, err := m.Next(off)
		if errors.Is(err, io.EOF) {
			return out
		}
		out = append(out, [2]int64{start, end - start})
		off = end
	}
}

// wantMarks checks that the grains of [off, off+n) are marked and no other.
func wantMarks(t *testing.T, what string, m *track.Marks, off, n int64) {
	t.Helper()
	if got := ranges(m); len(got) != 1 || got[0] != [2]int64{off, n} {
		t.Errorf("%s: marked %v, want %d bytes at %d", what, got, n, off)
	}
}

// blkZeroOut is BLKZEROOUT of linux/fs.h.
const blkZeroOut = 0x127f

// TestOperations: what each operation writes is marked, and nothing else: within a word of the bitmap and over many, zeroes that are written with no data, discards
// that are marked in the fine bitmap and in the coarse one.
func TestOperations(t *testing.T) {
	d := loop(t, 256<<20)
	tr := settled(t, instance(t), d)
	defer func() { _ = tr.Close() }()
	c := begin(t, tr, d)
	b, err := os.ReadFile("/sys/block/" + filepath.Base(d.Path) + "/queue/write_zeroes_max_bytes")
	if err != nil || strings.TrimSpace(string(b)) == "0" {
		t.Fatalf("%s takes no write-zeroes: %v", d.Path, err)
	}
	fd, err := unix.Open(d.Path, unix.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	buf, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(buf) }()
	write := func(off, n int64) error {
		_, err := unix.Pwrite(fd, buf[:n], off)
		return err
	}
	ioctl := func(req uintptr) func(off, n int64) error {
		return func(off, n int64) error {
			arg := [2]uint64{uint64(off), uint64(n)}
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(&arg))); errno != 0 {
				return errno
			}
			return nil
		}
	}
	const k = 4096 // a grain; 64 of them are a word
	for _, op := range []struct {
		name        string
		do          func(off, n int64) error
		off, n      int64
		first, size int64 // grains
	}{
		{"a sector", write, 5*k + 512, 512, 5, 1},
		{"over an edge of grains", write, 9*k + 3584, 1024, 9, 2},
		{"a word", write, 64 * k, 64 * k, 64, 64},
		{"over an edge of words", write, 63 * k, 2 * k, 63, 2},
		{"more than a word", write, 50 * k, 256 * k, 50, 256},
		{"zeroes", ioctl(blkZeroOut), 50 * k, 300 * k, 50, 300},
		{"a discard", ioctl(unix.BLKDISCARD), 50 * k, 300 * k, 50, 300},
		{"a large discard", ioctl(unix.BLKDISCARD), 50 * k, 40000 * k, 50, 40000},
	} {
		if err := op.do(op.off, op.n); err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
		wantMarks(t, op.name, flip(t, c, d), op.first*k, op.size*k)
	}
}

// TestCollector: what holds the programs is referenced, so the collector does not end them.
func TestCollector(t *testing.T) {
	d := loop(t, size)
	tr := settled(t, instance(t), d)
	defer func() { _ = tr.Close() }()
	c := begin(t, tr, d)
	for range 3 {
		runtime.GC()
	}
	write4K(t, d.Path, 8192)
	wantMarks(t, "after a collection", flip(t, c, d), 8192, 4096)
}

// TestPartition: a write through a partition is marked where it is on the disk, and a partition is not tracked by itself.
func TestPartition(t *testing.T) {
	d := loop(t, size)
	table := exec.CommandContext(t.Context(), "sfdisk", "-q", d.Path)
	table.Stdin = strings.NewReader("label: gpt\nstart=3MiB, size=8MiB\n")
	if out, err := table.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run(t, "partx", "-a", d.Path)
	cleanup(t, "partx", "-d", d.Path)
	tr := settled(t, instance(t), d)
	defer func() { _ = tr.Close() }()
	c := begin(t, tr, d)
	write4K(t, d.Path+"p1", 8192)
	wantMarks(t, "through a partition", flip(t, c, d), 3<<20+8192, 4096)
	c.Close()
	p := track.Disk{ID: "part", Path: d.Path + "p1", Size: 8 << 20}
	if err := tr.Watch(t.Context(), []track.Disk{p}); err != nil {
		t.Fatal(err)
	}
	if st := tr.Status("part"); st.Tracker != "scan" || !strings.Contains(st.Why, "partition") {
		t.Errorf("%+v", st)
	}
}

// TestFrozenTrim: fstrim does not stop for a freeze. What it discards after the flip is in the next epoch.
func TestFrozenTrim(t *testing.T) {
	d := loop(t, 64<<20)
	dir := mount(t, "ext4", d.Path)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "sync", "-f", dir)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	run(t, "sync", "-f", dir)
	tr := settled(t, instance(t), d)
	defer func() { _ = tr.Close() }()
	c := begin(t, tr, d)
	thaw := freeze(t, dir)
	_, err := c.Flip(t.Context())
	out, trimErr := exec.CommandContext(t.Context(), "fstrim", dir).CombinedOutput()
	thaw()
	if err := errors.Join(err, trimErr); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := flip(t, c, d).Bytes(); n < 8<<20 {
		t.Errorf("%d bytes are marked, and more were discarded", n)
	}
}

// TestComesAndGoes takes a disk away and puts another one in its place, also one that was there before: nobody watched it meanwhile.
func TestComesAndGoes(t *testing.T) {
	roottest.Need(t, "eBPF and loop devices")
	var files [2]string
	for i := range files {
		files[i] = filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(files[i], make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dev := run(t, "losetup", "-f", "--show", files[0])
	cleanup(t, "losetup", "-d", dev)
	d := track.Disk{ID: "disk", Path: dev, Size: size}
	tr := settled(t, instance(t), d)
	defer func() { _ = tr.Close() }()
	for _, file := range []string{files[1], files[1], files[0]} {
		c := begin(t, tr, d)
		run(t, "losetup", "-d", dev)
		run(t, "losetup", dev, file)
		if _, err := c.Flip(t.Context()); !errors.Is(err, track.ErrLost) || !strings.Contains(err.Error(), "taken away") {
			t.Errorf("a flip with another disk: %v", err)
		}
		c = begin(t, tr, d)
		if m, why := c.Changed(d.ID, "base"); m != nil || !strings.Contains(why, "taken away") {
			t.Errorf("marks %v, reason %q", m != nil, why)
		}
		if err := errors.Join(c.Intend("base"), c.Settle()); err != nil {
			t.Fatal(err)
		}
		c = begin(t, tr, d)
		write4K(t, dev, 8192)
		wantMarks(t, "the one that is there now", flip(t, c, d), 8192, 4096)
	}
}

// TestUnproven: disks without requests are scanned, but for those on which it was tested.
func TestUnproven(t *testing.T) {
	for name, want := range map[string]string{"zram0": "", "dm-3": "table can be replaced", "md127": "not proven for md", "nvme0n1": "multipath", "drbd0": "driver of drbd0"} {
		err := ebpf.Proven(name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMountsOnce: agents that start at once on a system without a mounted bpffs do not hide one another's pins.
func TestMountsOnce(t *testing.T) {
	roottest.Need(t, "mounts")
	dir := t.TempDir()
	for range 100 {
		var group errgroup.Group
		begin := make(chan struct{})
		for range 8 {
			group.Go(func() error {
				<-begin
				return ebpf.MountBPF(dir)
			})
		}
		close(begin)
		err := group.Wait()
		mounts := 0
		for unix.Unmount(dir, 0) == nil {
			mounts++
		}
		if err != nil || mounts != 1 {
			t.Fatalf("mounted %d times, %v", mounts, err)
		}
	}
}
