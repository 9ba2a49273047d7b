package freespace

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// lvmDisk names an empty disk for TestLogicalVolumes, which the kernel that runs the other tests may have no device mapper for:
// a test of whole machines (build tag e2e) starts it inside one.
const lvmDisk = "OPENMIGRATE_TEST_LVM_DISK"

// A logical volume in two pieces, around another one.
func TestLogicalVolumes(t *testing.T) {
	disk := os.Getenv(lvmDisk)
	if disk == "" {
		return
	}
	rng := rand.New(rand.NewPCG(23, 23))
	run(t, "pvcreate", "-q", disk)
	run(t, "vgcreate", "-q", "vg1", disk)
	run(t, "lvcreate", "-q", "-y", "-L", "60m", "-n", "a", "vg1")
	run(t, "lvcreate", "-q", "-y", "-L", "40m", "-n", "b", "vg1")
	run(t, "lvextend", "-q", "-L", "160m", "vg1/a")
	scribble(t, "/dev/vg1/b", noise(rng, 40*miB))
	run(t, "mkfs.ext4", "-Fq", "-b", "1024", "/dev/vg1/a")
	m := mountAt(t, "/dev/vg1/a", "ext4", "")
	fill(t, m.dir, rng, 12*miB)
	want, other := hashes(t, m.dir), sumDevice(t, "/dev/vg1/b")

	w := watch(t, disk)
	free, notes := of(t, disk, nil)
	st := m.statfs()
	t.Logf("%d bytes are free of %d; %v", free.Bytes(), int64(st.Bfree)*st.Bsize, notes)
	if free.Bytes() < int64(st.Bfree)*st.Bsize*8/10 {
		t.Errorf("%d bytes are free", free.Bytes())
	}
	m.unmount()
	run(t, "vgchange", "-q", "-an", "vg1")
	ruin(t, disk, free, w.written())
	run(t, "vgchange", "-q", "-ay", "vg1")
	layout{fs: "ext4"}.checkCopy(t, "/dev/vg1/a", want)
	if sumDevice(t, "/dev/vg1/b") != other {
		t.Error("the other volume was damaged")
	}

	// A snapshot needs what its origin has freed.
	m = mountAt(t, "/dev/vg1/a", "ext4", "")
	run(t, "lvcreate", "-q", "-y", "-s", "-L", "20m", "-n", "s", "vg1/a")
	free, notes = of(t, disk, nil)
	text := ""
	for _, n := range notes {
		text += n.String() + "\n"
	}
	if len(free) != 0 || !strings.Contains(text, "snapshot-origin") {
		t.Errorf("with a snapshot %d bytes are free:\n%s", free.Bytes(), text)
	}
	m.unmount()
	run(t, "vgchange", "-q", "-an", "vg1")
}

// ruin writes garbage to the free blocks of a device that were not written.
func ruin(t *testing.T, device string, free Ranges, written map[int64]bool) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	garbage := bytes.Repeat([]byte{0xff}, Grain)
	for _, r := range free {
		for at := r.Start; at < r.End; at += Grain {
			if written[at] {
				continue
			}
			if _, err := f.WriteAt(garbage, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(f.Sync(), unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0)); err != nil {
		t.Fatal(err)
	}
}

func sumDevice(t *testing.T, device string) [32]byte {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}
