package quiesce

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/internal/roottest"
)

// TestUnder walks a tree of devices that this machine does not have: LVM on md on partitions, and a loop device.
func TestUnder(t *testing.T) {
	sys := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		p := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(from, to string) {
		t.Helper()
		p := filepath.Join(sys, from)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(sys, to), p); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"sda 8:0", "sdb 8:16"} {
		name, n, _ := strings.Cut(d, " ")
		put("devices/"+name+"/dev", n)
		put("devices/"+name+"/"+name+"1/partition", "1")
		link("dev/block/"+n, "devices/"+name)
	}
	put("devices/sda/sda1/dev", "8:1")
	put("devices/sdb/sdb1/dev", "8:17")
	link("dev/block/8:1", "devices/sda/sda1")
	link("dev/block/8:17", "devices/sdb/sdb1")
	put("devices/md0/dev", "9:0")
	link("devices/md0/slaves/sda1", "devices/sda/sda1")
	link("devices/md0/slaves/sdb1", "devices/sdb/sdb1")
	link("dev/block/9:0", "devices/md0")
	put("devices/dm-0/dev", "253:0")
	link("devices/dm-0/slaves/md0", "devices/md0")
	link("dev/block/253:0", "devices/dm-0")
	backing := filepath.Join(sys, "backing")
	put("backing", "")
	put("devices/loop0/dev", "7:0")
	put("devices/loop0/loop/backing_file", backing)
	link("dev/block/7:0", "devices/loop0")
	h := host{sys: sys}
	mounts := []mount{{super: "253:0", point: sys, devices: []string{"253:0"}}}
	got, depth := h.under([]string{"7:0"}, mounts, 0)
	for _, want := range []string{"7:0", "253:0", "9:0", "8:1", "8:0", "8:17", "8:16"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not among %v", want, got)
		}
	}
	if depth != 1 {
		t.Errorf("%d loop devices deep, want 1", depth)
	}
}

// TestTargets finds real file systems: two on partitions of nothing but loop devices, one inside of the other, and a btrfs.
func TestTargets(t *testing.T) {
	roottest.Need(t, "loop devices")
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	disk := func(dir, fs string) (dev, point string) {
		t.Helper()
		img := filepath.Join(dir, fs+".img")
		if err := os.WriteFile(img, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(img, 130<<20); err != nil {
			t.Fatal(err)
		}
		dev = run("losetup", "-f", "--show", img)
		t.Cleanup(func() { _ = exec.Command("losetup", "-d", dev).Run() })
		run("mkfs."+fs, "-q", dev)
		point = t.TempDir()
		run("mount", dev, point)
		t.Cleanup(func() { _ = exec.Command("umount", point).Run() })
		return dev, point
	}
	outer, holder := disk(t.TempDir(), "btrfs")
	_, inner := disk(holder, "ext4")
	other, alone := disk(t.TempDir(), "ext4")
	mounts, not, err := Targets([]string{outer})
	if err != nil || len(not) > 0 {
		t.Fatalf("%v, %v", not, err)
	}
	if len(mounts) != 2 || mounts[0].Point != inner || mounts[1].Point != holder {
		t.Errorf("on %s: %+v", outer, mounts)
	}
	if mounts, _, err = Targets([]string{other}); err != nil || len(mounts) != 1 || mounts[0].Point != alone || mounts[0].FSType != "ext4" ||
		len(mounts[0].Devices) != 1 || mounts[0].Devices[0] != numberOf(t, other) {
		t.Errorf("on %s: %+v, %v", other, mounts, err)
	}
	bind := t.TempDir()
	run("mount", "--bind", alone, bind)
	defer run("umount", bind)
	if mounts, _, err = Targets([]string{other}); err != nil || len(mounts) != 1 {
		t.Errorf("with a bind mount: %+v, %v", mounts, err)
	}
	if _, _, err := Targets([]string{alone}); err == nil {
		t.Error("a directory is taken for a disk")
	}
}

// TestSynced: the file system of an EFI partition comes last, and is only synced; on a device that is no part of the disks it is one that cannot be frozen.
func TestSynced(t *testing.T) {
	dev := partitioned(t)
	first, second := numberOf(t, dev+"p1"), numberOf(t, dev+"p2")
	proc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "self"), 0o700); err != nil {
		t.Fatal(err)
	}
	table := "30 1 " + first + " / /boot/efi rw,relatime shared:1 - vfat " + dev + "p1 rw\n" +
		"31 1 " + second + " / / rw,relatime shared:1 - ext4 " + dev + "p2 rw\n"
	if err := os.WriteFile(filepath.Join(proc, "self/mountinfo"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	mounts, not, err := host{sys: "/sys", proc: proc}.targets([]string{dev})
	if err != nil || len(not) > 0 || len(mounts) != 2 || mounts[0].Point != "/" || mounts[0].Synced || mounts[1].Point != "/boot/efi" || !mounts[1].Synced {
		t.Errorf("%+v, %v, %v", mounts, not, err)
	}
}

// TestPooled: a file system of which it is not known on what disks it is counts as one that cannot be frozen.
func TestPooled(t *testing.T) {
	roottest.Need(t, "a block device")
	proc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "self"), 0o700); err != nil {
		t.Fatal(err)
	}
	table := "30 1 0:44 / /pool rw,relatime shared:1 - zfs pool/data rw,xattr\n" +
		"31 1 0:45 / /old ro,relatime shared:1 - zfs pool/old ro\n" +
		"32 1 0:46 / /tmp rw shared:1 - tmpfs tmpfs rw\n"
	if err := os.WriteFile(filepath.Join(proc, "self/mountinfo"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(proc, "img")
	if err := os.WriteFile(img, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	dev := sh(t, "losetup", "-f", "--show", img)
	t.Cleanup(func() { sh(t, "losetup", "-d", dev) })
	mounts, not, err := host{sys: "/sys", proc: proc}.targets([]string{dev})
	if err != nil || len(mounts) > 0 || len(not) != 1 || !strings.Contains(not[0], "/pool") {
		t.Errorf("%v, %q, %v", mounts, not, err)
	}
}

func numberOf(t *testing.T, path string) string {
	t.Helper()
	n, err := Number(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
