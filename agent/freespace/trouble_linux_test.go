package freespace

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// trouble are the layouts for tests that do not depend on the details of one.
var trouble = []layout{
	{name: "ext4", fs: "ext4", size: 128 * miB},
	{name: "xfs", fs: "xfs", size: 300 * miB},
	{name: "btrfs", fs: "btrfs", size: 256 * miB},
}

// attachCopy attaches a copy of the image of disk, whose file systems are no longer mounted.
func (l layout) attachCopy(t *testing.T, disk *sourcetest.LoopDevice, copied string) *sourcetest.LoopDevice {
	t.Helper()
	if l.fs == "btrfs" {
		run(t, "btrfs", "device", "scan", "--forget", disk.Path) // or the copy is taken for an old state of it
	}
	return sourcetest.NewLoopDevice(t, copied, sourcetest.LoopOptions{})
}

// Files come and go, with every kind of sync, before, while and after the map is taken.
func TestLiveWriter(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	for seed, l := range trouble {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			disk := newDisk(t, l.size)
			l.make(t, disk.Path)
			m := mountAt(t, disk.Path, l.fs, "")
			still, busy := filepath.Join(m.dir, "still"), filepath.Join(m.dir, "busy")
			if err := errors.Join(os.Mkdir(still, 0o700), os.Mkdir(busy, 0o700)); err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(uint64(seed), 11))
			fill(t, still, rng, 12*miB)
			want := hashes(t, still)

			ctx, stop := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			started := make(chan struct{})
			wg.Go(func() { churn(t, ctx, busy, rng, started) })
			<-started
			var copies []string
			for range 2 {
				w := watch(t, disk.Path)
				free, notes := of(t, disk.Path, nil)
				m.frozen(func() { copies = append(copies, copyWithout(t, disk.File, free, w.written())) })
				if len(notes) != 1 || notes[0].Why != "" || free.Bytes() < l.size/3 {
					t.Errorf("%d bytes are free, notes %v", free.Bytes(), notes)
				}
			}
			stop()
			wg.Wait()
			m.unmount()
			for _, copied := range copies {
				l.checkCopy(t, l.attachCopy(t, disk, copied).Path, prefixed("still", want))
			}
		})
	}
}

// churn writes, appends, renames over and deletes files until ctx ends. It closes started when it is well under way.
func churn(t *testing.T, ctx context.Context, dir string, rng *rand.Rand, started chan struct{}) {
	data := noise(rng, miB)
	for n := 0; ctx.Err() == nil; n++ {
		if n == 100 {
			close(started)
		}
		name := filepath.Join(dir, fmt.Sprintf("f%d", rng.IntN(60)))
		switch rng.IntN(4) {
		case 0:
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
			continue
		case 1:
			if err := os.Rename(name, filepath.Join(dir, fmt.Sprintf("f%d", rng.IntN(60)))); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Error(err)
			return
		}
		_, err = f.Write(data[:1+rng.IntN(1<<rng.IntN(20))])
		if n%4 == 0 {
			err = errors.Join(err, f.Sync())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
			return
		}
	}
}

func prefixed(dir string, sums map[string][32]byte) map[string][32]byte {
	out := map[string][32]byte{}
	for name, sum := range sums {
		out[filepath.Join(dir, name)] = sum
	}
	return out
}

// Files are deleted between the first sync and the scan, and the machine loses power right after the map was taken: a file that is
// back after that must be whole.
func TestFreedJustBefore(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	for seed, l := range trouble {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			disk := newDisk(t, l.size)
			l.make(t, disk.Path)
			m := mountAt(t, disk.Path, l.fs, "")
			rng := rand.New(rand.NewPCG(uint64(seed), 13))
			fill(t, m.dir, rng, 16*miB)
			if err := syncDir(m.dir); err != nil {
				t.Fatal(err)
			}
			want := hashes(t, m.dir)
			vols, _, err := discover(Disk{Path: disk.Path})
			if err != nil {
				t.Fatal(err)
			}
			h, err := readHost()
			if err != nil {
				t.Fatal(err)
			}
			v, found := vols[0], &collector{max: DefaultMaxRanges}
			ctx := context.Background()
			scan := func(dir *os.File) error { return v.scanFsmap(ctx, dir, found) }
			mnt := mount{device: v.number(), fs: l.fs}
			if l.fs == "btrfs" {
				var fsid [16]byte
				var ok bool
				if mnt, fsid, ok = v.btrfsMount(h); !ok {
					t.Fatal("the mount was not found")
				}
				scan = func(dir *os.File) error { return v.scanBtrfs(ctx, dir, mnt, fsid, found, new(Note)) }
			}
			w := watch(t, disk.Path)
			err = v.mapMounted(ctx, h, mnt, func(dir *os.File) error {
				n := 0
				for name := range want {
					if n++; n%3 > 0 {
						if err := os.Remove(filepath.Join(m.dir, name)); err != nil {
							return err
						}
					}
				}
				return scan(dir)
			})
			if err != nil {
				t.Fatal(err)
			}
			copied := copyWithout(t, disk.File, found.ranges(), w.written()) // not frozen: a crash
			m.unmount()
			device := l.attachCopy(t, disk, copied).Path
			c := mountAt(t, device, l.fs, "")
			got := hashes(t, c.dir)
			c.unmount()
			if len(got) < len(want)/4 {
				t.Errorf("%d files are left of %d", len(got), len(want))
			}
			for name, sum := range got {
				if sum != want[name] {
					t.Errorf("%s is there and differs", name)
				}
			}
			l.check(t, device)
		})
	}
}

// Space that was preallocated holds nothing yet, and is not free.
func TestPreallocatedIsNotFree(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	for _, l := range trouble[:2] {
		t.Run(l.name, func(t *testing.T) {
			disk := newDisk(t, l.size)
			l.make(t, disk.Path)
			m := mountAt(t, disk.Path, l.fs, "")
			f, err := os.Create(filepath.Join(m.dir, "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if err := unix.Fallocate(int(f.Fd()), 0, 0, 16*miB); err != nil {
				t.Fatal(err)
			}
			free, _ := of(t, disk.Path, nil)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			total := int64(0)
			for _, e := range extents(t, f.Name()) {
				total += e.Len()
				if i := free.from(e.Start); i < len(free) && free[i].Start < e.End {
					t.Errorf("extent %v of the file is in the free range %v", e, free[i])
				}
			}
			if total != 16*miB {
				t.Errorf("the file has %d bytes of extents", total)
			}
			m.unmount()
		})
	}
}

// extents are the places of a file on its device (FS_IOC_FIEMAP, struct fiemap).
func extents(t *testing.T, path string) (list []Range) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	const room = 256
	ne := binary.NativeEndian
	buf := make([]byte, 32+room*56)
	ne.PutUint64(buf[8:], ^uint64(0))
	ne.PutUint32(buf[24:], room)
	if err := ioctl(f, 0xc020660b, unsafe.Pointer(&buf[0])); err != nil {
		t.Fatal(err)
	}
	for i := range ne.Uint32(buf[20:]) {
		e := buf[32+56*i:]
		start := int64(ne.Uint64(e[8:]))
		list = append(list, Range{start, start + int64(ne.Uint64(e[16:]))})
	}
	return list
}

// What cannot be vouched for is data, and a note says why.
func TestRefusals(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	disk := newDisk(t, 128*miB)
	expect := func(what, why string) {
		t.Helper()
		free, notes := of(t, disk.Path, nil)
		if len(free) != 0 || len(notes) != 1 || notes[0].What != what || !strings.Contains(notes[0].Why, why) {
			t.Errorf("free %v, notes %v; want none, and one with %q", free, notes, why)
		}
	}
	expect("", "not in use")
	run(t, "mkfs.ext4", "-q", disk.Path)
	expect("ext4", "not in use")
	m := mountAt(t, disk.Path, "ext4", "")
	if err := unix.Mount("", m.dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	expect("ext4", "read-only")
	// Nothing is left to open it by.
	if err := unix.Mount("", m.dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", m.dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	expect("ext4", "no mount point")
	if err := unix.Unmount(m.dir, 0); err != nil {
		t.Fatal(err)
	}
	free, _ := of(t, disk.Path, &Options{MaxRanges: 2})
	if all, _ := of(t, disk.Path, nil); len(free) != 2 || len(all) <= 2 || free.Bytes() < all.Bytes()/2 {
		t.Errorf("of %d ranges with %d bytes, the two largest are %v", len(all), all.Bytes(), free)
	}
	if free, _, err := Of(context.Background(), Disk{Path: disk.Path, Size: 64 * miB}, nil); err != nil || free[len(free)-1].End != 64*miB {
		t.Errorf("of a pass over 64 MiB: %v, %v", free, err)
	}
	m.unmount()
}

func TestContext(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	disk := newDisk(t, 64*miB)
	run(t, "mkfs.ext4", "-q", disk.Path)
	mountAt(t, disk.Path, "ext4", "")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Of(ctx, Disk{Path: disk.Path}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 0)
	defer cancel()
	free, notes, err := Of(ctx, Disk{Path: disk.Path}, nil)
	if err != nil || len(free) != 0 || len(notes) != 1 || notes[0].Why != noTime {
		t.Errorf("out of time: %v, %v, %v", free, notes, err)
	}
}

func TestNoDevice(t *testing.T) {
	if _, _, err := Of(context.Background(), Disk{Path: filepath.Join(t.TempDir(), "none")}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such device: %v", err)
	}
	if _, _, err := Of(context.Background(), Disk{Path: "/dev/null"}, nil); err == nil {
		t.Error("a character device was taken")
	}
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, make([]byte, miB), 0o600); err != nil {
		t.Fatal(err)
	}
	if free, notes, err := Of(context.Background(), Disk{Path: file}, nil); err != nil || free != nil || len(notes) != 1 {
		t.Errorf("an image file: %v, %v, %v", free, notes, err)
	}
}
