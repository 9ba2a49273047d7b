package freespace

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/openmigrate/openmigrate/internal/roottest"
)

// layout is one way to make a file system.
type layout struct {
	name    string
	fs      string
	size    int64 // bytes of the device; 0: 128 MiB, or for xfs the least that its mkfs takes
	mkfs    []string
	options string
	grow    func(t *testing.T, device string, m *mounted) *mounted // makes it fill the device
}

// growExt4 does so while it is not mounted: the kernel wants CAP_SYS_RESOURCE for the other way, which root in a container lacks.
func growExt4(t *testing.T, device string, m *mounted) *mounted {
	m.unmount()
	run(t, "e2fsck", "-fp", device)
	run(t, "resize2fs", device)
	return mountAt(t, device, "ext4", "")
}

func growXFS(t *testing.T, _ string, m *mounted) *mounted {
	run(t, "xfs_growfs", m.dir)
	return m
}

var layouts = []layout{
	{name: "ext4", fs: "ext4", mkfs: []string{"-b", "4096"}},
	{name: "ext4 1 KiB blocks", fs: "ext4", mkfs: []string{"-b", "1024"}},
	{name: "ext4 bigalloc", fs: "ext4", mkfs: []string{"-b", "4096", "-O", "bigalloc", "-C", "65536"}},
	{name: "ext4 bigalloc 1 KiB", fs: "ext4", mkfs: []string{"-b", "1024", "-O", "bigalloc", "-C", "16384"}},
	{name: "ext4 meta_bg", fs: "ext4", mkfs: []string{"-b", "4096", "-O", "meta_bg,^resize_inode", "-g", "1024"}},
	{name: "ext4 no flex_bg, no journal", fs: "ext4", mkfs: []string{"-b", "4096", "-O", "^flex_bg,^has_journal"}},
	{name: "ext4 resized", fs: "ext4", mkfs: []string{"-b", "1024", "DEVICE", "60000"}, grow: growExt4},
	{name: "ext3", fs: "ext3", mkfs: []string{"-b", "4096"}},
	{name: "xfs", fs: "xfs", mkfs: []string{"-m", "rmapbt=0"}},
	{name: "xfs rmapbt", fs: "xfs", mkfs: []string{"-m", "rmapbt=1,reflink=1"}},
	{name: "xfs 1 KiB blocks", fs: "xfs", mkfs: []string{"-b", "size=1024"}},
	{name: "xfs grown", fs: "xfs", size: 400 * miB, mkfs: []string{"-d", "size=320m"}, grow: growXFS},
	{name: "btrfs single", fs: "btrfs", mkfs: []string{"-d", "single", "-m", "dup"}},
	{name: "btrfs DUP", fs: "btrfs", mkfs: []string{"-d", "dup", "-m", "dup"}},
	{name: "btrfs mixed", fs: "btrfs", mkfs: []string{"-M"}},
}

func (l layout) make(t *testing.T, device string) {
	t.Helper()
	args := slices.Clone(l.mkfs)
	quiet := map[string]string{"ext3": "-Fq", "ext4": "-Fq", "xfs": "-fq", "btrfs": "-fq"}[l.fs]
	if i := slices.Index(args, "DEVICE"); i >= 0 {
		args[i] = device
	} else {
		args = append(args, device)
	}
	run(t, "mkfs."+l.fs, append([]string{quiet}, args...)...)
}

// check fails the test if the file system on device is damaged.
func (l layout) check(t *testing.T, device string) {
	t.Helper()
	switch l.fs {
	case "xfs":
		run(t, "xfs_repair", "-n", device)
	case "btrfs":
		run(t, "btrfs", "check", "--check-data-csum", device)
	default:
		run(t, "e2fsck", "-fn", device)
	}
}

// checkCopy recovers a copy's file system as a machine that boots from it would, and compares its files.
func (l layout) checkCopy(t *testing.T, device string, want map[string][32]byte) {
	t.Helper()
	mountAt(t, device, l.fs, l.options).unmount()
	l.check(t, device)
	m := mountAt(t, device, l.fs, l.options)
	defer m.unmount()
	got := hashes(t, m.dir)
	for name, sum := range want {
		if got[name] != sum {
			t.Errorf("%s differs in the copy", name)
		}
	}
}

// mirrorStays checks that the superblock's mirror at 64 MiB, which no check of a file system reads, is not free.
func mirrorStays(t *testing.T, image string, free Ranges) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	const mirror = 64 * miB
	magic := make([]byte, 8)
	if _, err := f.ReadAt(magic, mirror+64); err != nil || string(magic) != "_BHRfS_M" {
		t.Fatalf("the mirror has the magic %q, %v", magic, err)
	}
	if i := free.from(mirror); i < len(free) && free[i].Start < mirror+Grain {
		t.Errorf("the superblock's mirror is in %v", free[i])
	}
}

func TestFilesystems(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	for seed, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			size := l.size
			if size == 0 {
				size = 128 * miB
				switch l.fs {
				case "xfs":
					size = 300 * miB
				case "btrfs":
					size = 256 * miB
				}
			}
			disk := newDisk(t, size)
			l.make(t, disk.Path)
			m := mountAt(t, disk.Path, l.fs, l.options)
			rng := rand.New(rand.NewPCG(uint64(seed), 7))
			fill(t, m.dir, rng, 16*miB)
			if l.grow != nil {
				m = l.grow(t, disk.Path, m)
				fill(t, filepath.Join(m.dir, "d0"), rng, 8*miB)
			}
			w := watch(t, disk.Path)
			free, notes := of(t, disk.Path, nil)
			st := m.statfs()
			reported := int64(st.Bfree) * st.Bsize
			part := float64(free.Bytes()) / float64(reported)
			t.Logf("%d ranges hold %d bytes, %.1f %% of the %d that are free; %v", len(free), free.Bytes(), 100*part, reported, notes)
			most := map[string]float64{
				"xfs":   1.15, // it keeps blocks back for its own trees, which are free and yet not counted
				"btrfs": 2.5,  // what is free for metadata is not counted, and of two copies one is
			}[l.fs]
			most = max(most, 1.02)
			if part < 0.8 || part > most {
				t.Errorf("%.3f of the free bytes were found, want 0.8 to %.2f", part, most)
			}
			if len(notes) != 1 || notes[0].What != l.fs || notes[0].Why != "" || notes[0].Free < free.Bytes() {
				t.Errorf("notes %v", notes)
			}
			want := hashes(t, m.dir)
			if l.fs == "btrfs" {
				mirrorStays(t, disk.File, free)
			}
			var copied string
			m.frozen(func() { copied = copyWithout(t, disk.File, free, w.written()) })
			m.unmount()
			l.checkCopy(t, l.attachCopy(t, disk, copied).Path, want)
			if n := len(want); n < 20 {
				t.Errorf("only %d files were compared", n)
			}
		})
	}
}
