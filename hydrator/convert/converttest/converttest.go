// Package converttest makes small machines for tests of what converts them.
package converttest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// Machine is a machine of a few MiB: a shell, files that conversion reads, and a mkinitramfs that copies what was prepared. Unlike a
// real one it is made and converted in a second.
type Machine struct {
	t     testing.TB
	Root  string
	Files map[string]string
}

// Modules are those that the initramfs of a machine gets.
var Modules = []string{"virtio_pci", "virtio_blk", "virtio_net", "nvme"}

// New is a machine of Debian's kind. It skips the test, or fails it in CI, where disks cannot be mounted.
func New(t testing.TB) *Machine {
	t.Helper()
	roottest.Need(t, "loop devices and mounts")
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	s := &Machine{t: t, Root: filepath.Join(t.TempDir(), "root")}
	dep := ""
	var inside []string
	for _, m := range Modules {
		dep += "kernel/" + m + ".ko:\n"
		inside = append(inside, "lib/modules/6.1-test/kernel/"+m+".ko")
	}
	s.Files = map[string]string{
		"etc/os-release":                       "ID=debian\nVERSION_ID=\"12\"\n",
		"etc/fstab":                            "/dev/sda1 / ext4 defaults 0 1\n/dev/sdc1 /gone ext4 defaults 0 2\nnas:/opt /opt nfs defaults 0 0\n",
		"etc/network/interfaces":               "auto ens3\niface ens3 inet dhcp\n",
		"etc/initramfs-tools/initramfs.conf":   "MODULES=dep\n",
		"sbin/ifup":                            "#!/bin/sh\n",
		"lib/modules/6.1-test/modules.dep":     dep,
		"lib/modules/6.1-test/modules.builtin": "",
		"boot/vmlinuz-6.1-test":                "kernel",
		"boot/initrd.img-6.1-test":             string(Gzipped(Archive("init"))),
		"boot/grub/grub.cfg":                   "linux /boot/vmlinuz-6.1-test root=/dev/sda1 ro\n",
		"prepared":                             string(Gzipped(Archive(append(inside, "init")...))),
		"usr/sbin/mkinitramfs":                 "#!/bin/sh\nset -e\ntest \"$1\" = -o\ntest \"$3\" = 6.1-test\ngrep -q most /etc/initramfs-tools/conf.d/zz-openmigrate\ncat /prepared >\"$2\"\n",
	}
	return s
}

// Drivers adds the modules themselves and their indexes, so that the machine's initramfs can be extended with them. Its own program then
// must not be needed, and fails.
func (s *Machine) Drivers() {
	dir := "lib/modules/6.1-test/"
	for _, m := range Modules {
		s.Files[dir+"kernel/"+m+".ko"] = "module " + m
	}
	s.Files[dir+"kernel/virtio_ring.ko"] = "module virtio_ring"
	s.Files[dir+"modules.dep"] += "kernel/virtio_ring.ko:\n"
	s.Files[dir+"modules.dep"] = strings.Replace(s.Files[dir+"modules.dep"], "virtio_pci.ko:", "virtio_pci.ko: kernel/virtio_ring.ko", 1)
	s.Files[dir+"modules.dep.bin"], s.Files[dir+"modules.alias.bin"] = "index of dependencies", "index of aliases"
	s.Files["usr/sbin/mkinitramfs"] = "#!/bin/sh\nexit 9\n"
}

// program copies a program of this machine's with what it loads.
func (s *Machine) program(name string) {
	s.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.CommandContext(context.Background(), "ldd", path).CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("not a dynamic executable")) {
		s.t.Fatalf("ldd %s: %v\n%s", path, err, out)
	}
	for _, file := range append(regexp.MustCompile(`/[^ ]+`).FindAllString(string(out), -1), path) {
		to := filepath.Join(s.Root, file)
		if file == path {
			to = filepath.Join(s.Root, "bin", name)
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
func (s *Machine) fill() {
	s.t.Helper()
	for _, name := range []string{"sh", "cat", "grep", "sleep"} {
		s.program(name)
	}
	for name, text := range s.Files {
		to := filepath.Join(s.Root, name)
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

// Disk writes the machine to an image with a partition table.
func (s *Machine) Disk() string {
	s.t.Helper()
	s.fill()
	path := filepath.Join(s.t.TempDir(), "disk.img")
	script := `truncate -s 24M "$1" && printf 'label: dos\nstart=1MiB\n' | sfdisk -q "$1" && mkfs.ext4 -q -F -d "$2" -E offset=1048576 "$1" 22m &&
printf 'GRUB ' | dd of="$1" bs=1 seek=100 conv=notrunc status=none`
	if out, err := exec.CommandContext(context.Background(), "sh", "-c", script, "sh", path, s.Root).CombinedOutput(); err != nil {
		s.t.Fatalf("make disk: %v\n%s", err, out)
	}
	return path
}

// Whole writes the machine to a disk without partitions, where folders of btrfs are subvolumes.
func (s *Machine) Whole(size, mkfs string, subvolumes ...string) string {
	s.t.Helper()
	s.fill()
	path := filepath.Join(s.t.TempDir(), "disk.img")
	if out, err := exec.CommandContext(context.Background(), "sh", "-c", `truncate -s "$1" "$2" && `+mkfs+` "$2"`, "sh", size, path).CombinedOutput(); err != nil {
		s.t.Fatalf("make file system: %v\n%s", err, out)
	}
	if err := loader(path); err != nil {
		s.t.Fatal(err)
	}
	list, volumes, err := disks.Scan([]string{path})
	if err != nil {
		s.t.Fatal(err)
	}
	err = disks.Private(context.Background(), func(space *disks.Space) error {
		if err := space.Mount(list, volumes[0], "", nil, false); err != nil {
			return err
		}
		to := space.Dir()
		for _, v := range subvolumes {
			if out, err := exec.CommandContext(context.Background(), "btrfs", "subvolume", "create", filepath.Join(space.Dir(), v)).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
		if len(subvolumes) > 0 {
			to = filepath.Join(to, subvolumes[0])
		}
		out, err := exec.CommandContext(context.Background(), "cp", "-a", s.Root+"/.", to).CombinedOutput()
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

// loader puts what looks like GRUB into the first sector, if the file system leaves that free.
func loader(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, 440)
	if _, err = f.ReadAt(b, 0); err == nil && bytes.Equal(b, make([]byte, len(b))) {
		_, err = f.WriteAt([]byte("GRUB "), 100)
	}
	return errors.Join(err, f.Close())
}

// Archive is a cpio archive of empty files.
func Archive(names ...string) []byte {
	var b bytes.Buffer
	for _, name := range append(names, "TRAILER!!!") {
		content := ""
		if name != "TRAILER!!!" {
			content = "12345"
		}
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", 1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, (4-b.Len()%4)%4))
		b.WriteString(content)
		b.Write(make([]byte, (4-b.Len()%4)%4))
	}
	return b.Bytes()
}

// Gzipped is b compressed.
func Gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}
