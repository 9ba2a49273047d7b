package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// small is a machine of a few MiB: a shell, files that conversion reads, and a mkinitramfs that copies what was prepared. Unlike a
// real one it is made and converted in a second.
type small struct {
	t     *testing.T
	root  string
	files map[string]string
}

var modulesOf = []string{"virtio_pci", "virtio_blk", "virtio_net", "nvme"}

func newSmall(t *testing.T) *small {
	t.Helper()
	roottest.Need(t, "loop devices and mounts")
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	s := &small{t: t, root: filepath.Join(t.TempDir(), "root")}
	dep := ""
	var inside []string
	for _, m := range modulesOf {
		dep += "kernel/" + m + ".ko:\n"
		inside = append(inside, "lib/modules/6.1-test/kernel/"+m+".ko")
	}
	s.files = map[string]string{
		"etc/os-release":                       "ID=debian\nVERSION_ID=\"12\"\n",
		"etc/fstab":                            "/dev/sda1 / ext4 defaults 0 1\n/dev/sdc1 /gone ext4 defaults 0 2\nnas:/opt /opt nfs defaults 0 0\n",
		"etc/network/interfaces":               "auto ens3\niface ens3 inet dhcp\n",
		"etc/initramfs-tools/initramfs.conf":   "MODULES=dep\n",
		"sbin/ifup":                            "#!/bin/sh\n",
		"lib/modules/6.1-test/modules.dep":     dep,
		"lib/modules/6.1-test/modules.builtin": "",
		"boot/vmlinuz-6.1-test":                "kernel",
		"boot/initrd.img-6.1-test":             string(gzipped(archive("init"))),
		"boot/grub/grub.cfg":                   "linux /boot/vmlinuz-6.1-test root=/dev/sda1 ro\n",
		"prepared":                             string(gzipped(archive(append(inside, "init")...))),
		"usr/sbin/mkinitramfs":                 "#!/bin/sh\nset -e\ntest \"$1\" = -o\ntest \"$3\" = 6.1-test\ngrep -q most /etc/initramfs-tools/conf.d/zz-openmigrate\ncat /prepared >\"$2\"\n",
	}
	return s
}

// program copies a program of this machine's with what it loads.
func (s *small) program(name string) {
	s.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.Command("ldd", path).CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("not a dynamic executable")) {
		s.t.Fatalf("ldd %s: %v\n%s", path, err, out)
	}
	for _, file := range append(regexp.MustCompile(`/[^ ]+`).FindAllString(string(out), -1), path) {
		to := filepath.Join(s.root, file)
		if file == path {
			to = filepath.Join(s.root, "bin", name)
		}
		b, err := os.ReadFile(file)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, b, 0o755)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// fill puts the machine's files into its folder.
func (s *small) fill() {
	s.t.Helper()
	for _, name := range []string{"sh", "cat", "grep", "sleep"} {
		s.program(name)
	}
	for name, text := range s.files {
		to := filepath.Join(s.root, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			s.t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(to, []byte(text), mode); err != nil {
			s.t.Fatal(err)
		}
	}
}

// disk writes the machine to an image with a partition table.
func (s *small) disk() string {
	s.t.Helper()
	s.fill()
	path := filepath.Join(s.t.TempDir(), "disk.img")
	script := `truncate -s 24M "$1" && printf 'label: dos\nstart=1MiB\n' | sfdisk -q "$1" && mkfs.ext4 -q -F -d "$2" -E offset=1048576 "$1" 22m`
	if out, err := exec.Command("sh", "-c", script, "sh", path, s.root).CombinedOutput(); err != nil {
		s.t.Fatalf("make disk: %v\n%s", err, out)
	}
	return path
}

// whole writes the machine to a disk without partitions, where folders of btrfs are subvolumes.
func (s *small) whole(size, mkfs string, subvolumes ...string) string {
	s.t.Helper()
	s.fill()
	path := filepath.Join(s.t.TempDir(), "disk.img")
	if out, err := exec.Command("sh", "-c", `truncate -s "$1" "$2" && `+mkfs+` "$2"`, "sh", size, path).CombinedOutput(); err != nil {
		s.t.Fatalf("make file system: %v\n%s", err, out)
	}
	list, volumes, err := disks.Scan([]string{path})
	if err != nil {
		s.t.Fatal(err)
	}
	err = disks.Private(s.t.Context(), func(space *disks.Space) error {
		if err := space.Mount(list, volumes[0], "", nil, false); err != nil {
			return err
		}
		to := space.Dir()
		for _, v := range subvolumes {
			if out, err := exec.Command("btrfs", "subvolume", "create", filepath.Join(space.Dir(), v)).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
		if len(subvolumes) > 0 {
			to = filepath.Join(to, subvolumes[0])
		}
		out, err := exec.Command("cp", "-a", s.root+"/.", to).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return path
}

// Other file systems, and a root and /var in subvolumes of one.
func TestFileSystems(t *testing.T) {
	for name, test := range map[string]struct {
		size, mkfs string
		subvolumes []string
		fstab      string
	}{
		"xfs":   {"320M", "mkfs.xfs -q -f", nil, "/dev/sda / xfs defaults 0 0\n"},
		"btrfs": {"160M", "mkfs.btrfs -q -f", []string{"@", "@var"}, "/dev/sda / btrfs subvol=@ 0 0\n/dev/sda /var btrfs defaults,subvol=@var 0 0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newSmall(t)
			m.files["etc/fstab"], m.files["var/empty"] = test.fstab, ""
			path := m.whole(test.size, test.mkfs, test.subvolumes...)
			mustConvert(t, path)
			got := contents(t, path)
			if want := m.files["prepared"]; got["boot/initrd.img-6.1-test"] != want || strings.Contains(got["etc/fstab"], "/dev/sda") ||
				got["var/lib/openmigrate/backup/etc/fstab"] != test.fstab {
				t.Errorf("fstab %q, its backup %q", got["etc/fstab"], got["var/lib/openmigrate/backup/etc/fstab"])
			}
			if again := mustConvert(t, path); len(again.Changes) != 0 {
				t.Errorf("a second conversion changed %+v", again.Changes)
			}
		})
	}
}

// contents are all files of a disk's root.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	err = disks.Private(t.Context(), func(space *disks.Space) error {
		return s.withRoot(space, true, func(*tree.Tree) error {
			return filepath.WalkDir(space.Dir(), func(name string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				b, err := os.ReadFile(name)
				all[strings.TrimPrefix(name, space.Dir()+"/")] = string(b)
				return err
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func mustConvert(t *testing.T, path string) *Report {
	t.Helper()
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	// A launch stores it between its steps.
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	stored := &System{}
	if err := json.Unmarshal(b, stored); err != nil {
		t.Fatal(err)
	}
	r, err := Convert(t.Context(), stored, Target{Platform: KVM}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// clean fails if the disk is mounted or attached, or its file system is damaged.
func clean(t *testing.T, path string) {
	t.Helper()
	deadline, pause := time.Now().Add(time.Minute), time.NewTicker(10*time.Millisecond)
	defer pause.Stop()
	for {
		out, err := exec.Command("losetup", "--noheadings", "--output", "NAME", "--associated", path).CombinedOutput()
		if err != nil {
			t.Fatalf("losetup: %v\n%s", err, out)
		}
		if len(out) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("attached: %s", out)
		}
		<-pause.C
	}
	// -p replays a journal and repairs what is harmless; 4 and above is damage.
	out, err := exec.Command("e2fsck", "-p", path+"?offset=1048576").CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() >= 4) {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}
