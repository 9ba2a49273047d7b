package volume_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
	"github.com/openmigrate/openmigrate/hydrator/volume"
)

func open(t *testing.T, path string) *volume.Volume {
	t.Helper()
	v, err := volume.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func file(t *testing.T, b []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestZeroFile(t *testing.T) {
	content := bytes.Repeat([]byte{7}, 4<<20+123)
	path := file(t, content)
	v := open(t, path)
	for _, r := range [][2]int64{{0, 1 << 20}, {2<<20 + 5, 7}, {3 << 20, 1<<20 + 123}} {
		if err := v.Zero(r[0], r[1]); err != nil {
			t.Fatal(err)
		}
		clear(content[r[0] : r[0]+r[1]])
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("wrong content: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Blocks*512 > 3<<20 {
		t.Errorf("%d bytes are allocated, %v: no hole was made", st.Blocks*512, err)
	}
}

func TestOneRestoreAtATime(t *testing.T) {
	path := file(t, []byte("x"))
	v := open(t, path)
	if _, err := volume.Open(path); !errors.Is(err, volume.ErrInUse) {
		t.Errorf("%v, want ErrInUse", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestIdentity(t *testing.T) {
	path := file(t, []byte("x"))
	id := func() volume.Identity {
		v := open(t, path)
		defer func() { _ = v.Close() }()
		i, err := v.Identity()
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	first := id()
	if again := id(); !again.Unchanged(first) {
		t.Errorf("%+v became %+v", first, again)
	}
	if err := os.WriteFile(path+"2", []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"2", path); err != nil {
		t.Fatal(err)
	}
	if other := id(); other.SameObject(first) {
		t.Error("another file was taken for the first")
	}
}

func TestFileBehindLoopDevice(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	path := file(t, make([]byte, 8<<20))
	sourcetest.NewLoopDevice(t, path, sourcetest.LoopOptions{})
	if _, err := volume.Open(path); !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), "/dev/loop") {
		t.Errorf("%v, want ErrInUse", err)
	}
}

func mkfs(t *testing.T, dev string) string {
	t.Helper()
	run(t, "mkfs.ext4", "-q", "-F", dev)
	dir := t.TempDir()
	run(t, "mount", dev, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func TestMountedIsRefused(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	path := file(t, make([]byte, 16<<20))
	d := sourcetest.NewLoopDevice(t, path, sourcetest.LoopOptions{})
	dir := mkfs(t, d.Path)
	for _, p := range []string{d.Path, path} {
		if _, err := volume.Open(p); !errors.Is(err, volume.ErrInUse) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want ErrInUse that names %s", p, err, dir)
		}
	}
}

func TestExclusiveHolderIsRefused(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	d := sourcetest.NewLoopDevice(t, file(t, make([]byte, 4<<20)), sourcetest.LoopOptions{})
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := volume.Open(d.Path); !errors.Is(err, volume.ErrInUse) {
		t.Errorf("%v, want ErrInUse", err)
	}
}

func TestDeviceContent(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	const size = 8 << 20
	for name, c := range map[string]struct {
		off  int64
		data string
		want string // in the error; empty: it counts as empty
	}{
		"zeros":                {0, "\x00", ""},
		"in the middle":        {4 << 20, "x", ""},
		"GPT":                  {512, "EFI PART", "GPT"},
		"ext4":                 {0x438, "\x53\xef", "ext4"},
		"anything":             {700000, "?", "data at its start"},
		"backup GPT":           {size - 512, "EFI PART", "data at its end"},
		"md at the end":        {size - 65536, "\xfc\x4e\x2b\xa9", "data at its end"},
		"boot sector":          {510, "\x55\xaa", "boot sector"},
		"LVM":                  {512, "LABELONE", "LVM"},
		"LUKS":                 {0, "LUKS\xba\xbe", "LUKS"},
		"swap":                 {4086, "SWAPSPACE2", "swap"},
		"GPT of 4 KiB sectors": {4096, "EFI PART", "GPT"},
	} {
		b := make([]byte, size)
		copy(b[c.off:], c.data)
		d := sourcetest.NewLoopDevice(t, file(t, b), sourcetest.LoopOptions{})
		v := open(t, d.Path)
		err := v.Empty()
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, volume.ErrNotEmpty) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--overwrite")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if err := d.Detach(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeviceSizeAndZero(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	content := bytes.Repeat([]byte{7}, 8<<20)
	d := sourcetest.NewLoopDevice(t, file(t, content), sourcetest.LoopOptions{})
	v := open(t, d.Path)
	if v.Size() != 8<<20 || !v.Device() || v.Fresh() {
		t.Errorf("size %d, device %v, fresh %v", v.Size(), v.Device(), v.Fresh())
	}
	if err := v.SetSize(8 << 20); err != nil {
		t.Error(err)
	}
	if err := v.SetSize(8<<20 + 1); !errors.Is(err, volume.ErrTooSmall) {
		t.Errorf("%v, want ErrTooSmall", err)
	}
	for _, r := range [][2]int64{{1 << 20, 2 << 20}, {4 << 20, 12345}, {6 << 20, 10}} {
		if err := v.Zero(r[0], r[1]); err != nil {
			t.Fatal(err)
		}
		clear(content[r[0] : r[0]+r[1]])
	}
	if err := v.Sync(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(content))
	if _, err := v.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("wrong content: %v", err)
	}
}
