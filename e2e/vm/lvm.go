package vm

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// installLVM makes the whole disk with the root in a volume group. The kernel that runs the tests may have no device
// mapper, so a machine that was made from the same recipe on ext4 copies itself onto a second disk.
func (d *disk) installLVM(ctx context.Context, t testing.TB, r Recipe) error {
	if err := d.partition(ctx); err != nil {
		return err
	}
	plain := Build(t, Recipe{Packages: r.Packages, Modules: r.Modules})
	m := Start(t, plain, Options{Bus: VirtioBlk, Disks: []int64{d.size * mib}})
	defer m.Kill()
	m.WaitBoot()
	// What was made outside the machine is its partition table, GRUB and the ESP.
	if err := m.putHead(ctx, d.path); err != nil {
		return err
	}
	release := strings.TrimSpace(m.Shell(ctx, "uname -r"))
	m.Shell(ctx, fmt.Sprintf(`
exec 2>&1
udevadm trigger --settle --action=add --subsystem-match=block
blockdev --rereadpt /dev/vdb
udevadm settle
pvcreate -q /dev/vdb4
vgcreate -q vg0 /dev/vdb4
lvcreate -q -y -l 20%%VG -n root vg0
lvcreate -q -y -l 1 -n between vg0
lvextend -q -l +30%%VG vg0/root
lvremove -q -y vg0/between
mkfs.ext4 -q -L root /dev/vg0/root
mkfs.ext4 -q -U %[1]s -L boot /dev/vdb3
mkdir -p /run/new
mount /dev/vg0/root /run/new
mkdir -p /run/new/boot
mount /dev/vdb3 /run/new/boot
cp -ax /. /run/new/
mkdir -p /run/new/boot/efi
`, d.uuid()))
	for _, f := range []struct{ path, text string }{
		{"/run/new/etc/fstab", d.fstab()},
		{"/run/new/etc/machine-id", d.key + "00000000\n"},
		{"/run/new/boot/grub/grub.cfg", d.grubCfgFor(release)},
	} {
		if err := m.channel.Put(ctx, f.path, strings.NewReader(f.text), 0o644); err != nil {
			return err
		}
	}
	m.Shell(ctx, "umount /run/new/boot /run/new; vgchange -q -an vg0; sync")
	m.PowerOff()
	if err := os.Remove(d.path); err != nil {
		return err
	}
	_, err := command(ctx, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", m.disks[1], d.path)
	return err
}

// putHead copies the start of a disk, up to its first file system, and its end to /dev/vdb.
func (m *Machine) putHead(ctx context.Context, disk string) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for _, part := range []struct{ from, to int64 }{{0, rootStart * mib}, {size - mib, size}} {
		const name = "/run/part"
		if err := m.channel.Put(ctx, name, io.NewSectionReader(f, part.from, part.to-part.from), 0o600); err != nil {
			return err
		}
		m.Shell(ctx, fmt.Sprintf("dd if=%s of=/dev/vdb bs=1M seek=%d conv=notrunc,fsync status=none; rm %[1]s", name, part.from/mib))
	}
	return nil
}
