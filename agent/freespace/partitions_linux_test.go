package freespace

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// part is one partition of the test's disk, in sectors of 512 bytes.
type part struct {
	start, size int64
	layout      layout
}

func (p part) bytes() Range { return Range{p.start * 512, (p.start + p.size) * 512} }

// addParts makes the kernel, which may not read partition tables itself, know the partitions of a disk.
func addParts(t *testing.T, disk string) {
	t.Helper()
	run(t, "partx", "-a", disk)
	t.Cleanup(func() { run(t, "partx", "-d", disk) })
}

func TestPartitions(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	const mib = miB / 512
	parts := []part{
		{1 * mib, 8 * mib, layout{name: "boot code"}},
		{10 * mib, 96 * mib, layout{fs: "ext4", mkfs: []string{"-b", "1024"}}},
		{107*mib + 1, 64 * mib, layout{fs: "ext4", mkfs: []string{"-b", "4096"}}}, // not aligned to pages
		{180 * mib, 300 * mib, layout{fs: "xfs"}},
		{481 * mib, 128*mib + 3, layout{fs: "btrfs", mkfs: []string{"-d", "single", "-m", "dup"}}},
		{611*mib + 5, 16 * mib, layout{name: "swap"}},
		{628 * mib, 16 * mib, layout{name: "idle"}},
	}
	disk := newDisk(t, 646*miB)
	rng := rand.New(rand.NewPCG(17, 17))
	scribble(t, disk.Path, noise(rng, 646*miB))
	table := "label: gpt\n"
	for _, p := range parts {
		table += fmt.Sprintf("start=%d, size=%d\n", p.start, p.size)
	}
	script := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(script, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", fmt.Sprintf("/usr/sbin/sfdisk -q --no-reread --wipe always %s < %s", disk.Path, script))
	if free, notes := of(t, disk.Path, nil); len(free) != 0 || len(notes) != 1 || !strings.Contains(notes[0].Why, "partition table") {
		t.Errorf("before the kernel knows the partitions: %v, %v", free, notes)
	}
	addParts(t, disk.Path)
	name := func(i int) string { return fmt.Sprintf("%sp%d", disk.Path, i+1) }

	var mounts []*mounted
	wants := map[int]map[string][32]byte{}
	for i, p := range parts {
		switch {
		case p.layout.fs != "":
			p.layout.make(t, name(i))
			m := mountAt(t, name(i), p.layout.fs, "")
			fill(t, m.dir, rng, 6*miB)
			wants[i] = hashes(t, m.dir)
			mounts = append(mounts, m)
		case p.layout.name == "swap":
			run(t, "mkswap", "-L", "label", name(i))
			run(t, "swapon", name(i))
			t.Cleanup(func() { run(t, "swapoff", name(i)) })
		case p.layout.name == "idle":
			run(t, "mkfs.ext4", "-Fq", name(i))
		}
	}
	w := watch(t, disk.Path)
	free, notes := of(t, disk.Path, nil)
	t.Log(notes)
	var copied string
	nested(mounts, func() { copied = copyWithout(t, disk.File, free, w.written()) })
	checkPlaces(t, parts, free)
	if len(notes) != len(parts) {
		t.Errorf("%d notes, want %d", len(notes), len(parts))
	}
	for _, m := range mounts {
		m.unmount()
	}
	run(t, "btrfs", "device", "scan", "--forget", name(4))
	other := sourcetest.NewLoopDevice(t, copied, sourcetest.LoopOptions{})
	addParts(t, other.Path)
	for i, want := range wants {
		parts[i].layout.checkCopy(t, fmt.Sprintf("%sp%d", other.Path, i+1), want)
	}
	if out := run(t, "swaplabel", fmt.Sprintf("%sp6", other.Path)); !strings.Contains(out, "label") {
		t.Errorf("the copy's swap area says %q", out)
	}
}

// checkPlaces checks that free ranges are inside the partitions that are in use, and how much of each they are.
func checkPlaces(t *testing.T, parts []part, free Ranges) {
	t.Helper()
	found := make([]int64, len(parts))
	for _, r := range free {
		i := slices.IndexFunc(parts, func(p part) bool { return p.bytes().Start <= r.Start && r.End <= p.bytes().End })
		if i < 0 {
			t.Fatalf("%v is in no partition", r)
		}
		found[i] += r.Len()
	}
	for i, p := range parts {
		size := p.bytes().Len()
		least, most := size/2, size
		switch p.layout.name {
		case "boot code", "idle":
			least, most = 0, 0
		case "swap":
			least, most = size-3*Grain, size-Grain
		}
		if found[i] < least || found[i] > most {
			t.Errorf("%d bytes of partition %d are free, want %d to %d", found[i], i+1, least, most)
		}
	}
}

// nested calls fn while all are frozen.
func nested(mounts []*mounted, fn func()) {
	if len(mounts) == 0 {
		fn()
		return
	}
	mounts[0].frozen(func() { nested(mounts[1:], fn) })
}

func scribble(t *testing.T, device string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func TestBtrfsOnTwoDevices(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	l := layout{fs: "btrfs"}
	a, b := newDisk(t, 256*miB), newDisk(t, 256*miB)
	run(t, "mkfs.btrfs", "-fq", "-d", "raid1", "-m", "raid1", a.Path, b.Path)
	run(t, "btrfs", "device", "scan", a.Path, b.Path)
	m := mountAt(t, a.Path, "btrfs", "")
	rng := rand.New(rand.NewPCG(19, 19))
	fill(t, m.dir, rng, 12*miB)
	want := hashes(t, m.dir)
	watchers := []*watcher{watch(t, a.Path), watch(t, b.Path)}
	var frees []Ranges
	for _, d := range []*sourcetest.LoopDevice{a, b} {
		free, notes := of(t, d.Path, nil)
		if len(notes) != 1 || notes[0].Why != "" || free.Bytes() < 128*miB {
			t.Errorf("%d bytes of %s are free, notes %v", free.Bytes(), d.Path, notes)
		}
		frees = append(frees, free)
	}
	var copies []string
	m.frozen(func() {
		for i, d := range []*sourcetest.LoopDevice{a, b} {
			copies = append(copies, copyWithout(t, d.File, frees[i], watchers[i].written()))
		}
	})
	m.unmount()
	run(t, "btrfs", "device", "scan", "--forget", a.Path)
	run(t, "btrfs", "device", "scan", "--forget", b.Path)
	c := sourcetest.NewLoopDevice(t, copies[0], sourcetest.LoopOptions{})
	d := sourcetest.NewLoopDevice(t, copies[1], sourcetest.LoopOptions{})
	run(t, "btrfs", "device", "scan", c.Path, d.Path)
	l.checkCopy(t, c.Path, want)
	run(t, "btrfs", "device", "scan", "--forget", c.Path)
	run(t, "btrfs", "device", "scan", "--forget", d.Path)
}

// A btrfs without a free space tree gives what no block group has, and says so.
func TestBtrfsWithoutFreeSpaceTree(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	disk := newDisk(t, 256*miB)
	run(t, "mkfs.btrfs", "-fq", "-R", "^free-space-tree", disk.Path)
	m := mountAt(t, disk.Path, "btrfs", "space_cache")
	free, notes := of(t, disk.Path, nil)
	if len(notes) != 1 || !strings.Contains(notes[0].Why, "free space tree") || free.Bytes() < 64*miB {
		t.Errorf("%d bytes are free, notes %v", free.Bytes(), notes)
	}
	if st := m.statfs(); free.Bytes() > int64(st.Bfree)*st.Bsize {
		t.Errorf("%d bytes are free, of %d", free.Bytes(), int64(st.Bfree)*st.Bsize)
	}
	m.unmount()
}
