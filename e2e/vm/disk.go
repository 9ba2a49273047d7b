package vm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A disk's partitions, in MiB. The first is GRUB's for BIOS, the second holds GRUB for UEFI, the third is the root or,
// with LVM, /boot, and then the fourth is the volume group.
const (
	grubStart, grubSize = 1, 1
	espStart, espSize   = 2, 64
	rootStart           = espStart + espSize
	bootSize            = 256 // with LVM
)

// RootOffset is where the root with ext4 begins, in bytes.
const RootOffset int64 = rootStart * mib

const (
	mib    = 1 << 20
	sector = 512
)

// disk is an image that is being made. No step needs a loop device or a partition table in the kernel.
type disk struct {
	path string
	key  string
	size int64 // MiB
	lvm  bool
	root string // name of the root for boot loader and fstab
}

func newDisk(path, key string, r Recipe) *disk {
	d := &disk{path: path, key: key, size: r.SizeMiB, lvm: r.Root == LVM, root: r.RootName}
	switch {
	case d.lvm:
		d.root = "/dev/mapper/vg0-root"
	case d.root == "":
		d.root = "UUID=" + d.uuid()
	}
	return d
}

// uuid is that of the file system which holds the kernel, another one for each recipe.
func (d *disk) uuid() string {
	k := d.key
	return fmt.Sprintf("%s-%s-4%s-8%s-%s", k[:8], k[8:12], k[12:15], k[15:18], k[:12])
}

// espID is the serial number of the FAT file system, in hex.
func (d *disk) espID() string { return strings.ToUpper(d.key[16:24]) }

func (d *disk) fstab() string {
	s := d.root + " / ext4 errors=remount-ro 0 1\n"
	if d.lvm {
		s += "UUID=" + d.uuid() + " /boot ext4 defaults 0 2\n"
	}
	return s + "UUID=" + d.espID()[:4] + "-" + d.espID()[4:] + " /boot/efi vfat umask=0077 0 1\n"
}

// grubCfg starts the newest kernel below root/boot.
func (d *disk) grubCfg(root string) (string, error) {
	kernels, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(kernels) == 0 {
		return "", errors.Join(err, errors.New("the root file system has no kernel"))
	}
	return d.grubCfgFor(strings.TrimPrefix(filepath.Base(kernels[len(kernels)-1]), "vmlinuz-")), nil
}

// The kernel takes it for granted that its timer works: on a host that is busy the emulated one may not tick often enough while it looks, and then it panics.
func (d *disk) grubCfgFor(release string) string {
	dir := "/boot/"
	if d.lvm {
		dir = "/"
	}
	return fmt.Sprintf(`set timeout=0
menuentry 'Debian GNU/Linux' {
	search --no-floppy --fs-uuid --set=root %[1]s
	linux %[2]svmlinuz-%[3]s root=%[4]s ro no_timer_check console=tty0 console=ttyS0,115200
	initrd %[2]sinitrd.img-%[3]s
}
`, d.uuid(), dir, release, d.root)
}

// partition makes the file with its partition table, GRUB, and the ESP.
func (d *disk) partition(ctx context.Context) error {
	f, err := os.OpenFile(d.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(d.size*mib), f.Close()); err != nil {
		return err
	}
	table := fmt.Sprintf("label: gpt\nstart=%dMiB, size=%dMiB, type=21686148-6449-6E6F-744E-656564454649\n"+
		"start=%dMiB, size=%dMiB, type=U\n", grubStart, grubSize, espStart, espSize)
	if d.lvm {
		table += fmt.Sprintf("start=%dMiB, size=%dMiB, type=L\nstart=%dMiB, size=%dMiB, type=V\n",
			rootStart, bootSize, rootStart+bootSize, d.size-rootStart-bootSize-1)
	} else {
		table += fmt.Sprintf("start=%dMiB, size=%dMiB, type=L\n", rootStart, d.size-rootStart-1)
	}
	script := d.path + ".sfdisk"
	if err := os.WriteFile(script, []byte(table), 0o600); err != nil {
		return err
	}
	if _, err := command(ctx, "sh", "-c", `sfdisk --quiet "$1" <"$2"`, "sh", d.path, script); err != nil {
		return err
	}
	return d.installGRUB(ctx)
}

// install makes the whole disk with the root on ext4.
func (d *disk) install(ctx context.Context, root, guest string, r Recipe) error {
	if err := makeRoot(ctx, root, guest, d, r); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, "boot/efi"), 0o755); err != nil {
		return err
	}
	if err := d.partition(ctx); err != nil {
		return err
	}
	_, err := command(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-U", d.uuid(), "-L", "root", "-d", root,
		"-E", fmt.Sprintf("offset=%d", int64(rootStart)*mib), d.path, fmt.Sprintf("%dk", (d.size-rootStart-1)<<10))
	return err
}

// installGRUB writes GRUB for BIOS and UEFI. Both find their configuration by the file system's UUID.
func (d *disk) installGRUB(ctx context.Context) error {
	prefix := "/boot/grub"
	if d.lvm {
		prefix = "/grub"
	}
	early := d.path + ".grub"
	text := fmt.Sprintf("search.fs_uuid %s root\nset prefix=($root)%s\n", d.uuid(), prefix)
	if err := os.WriteFile(early, []byte(text), 0o600); err != nil {
		return err
	}
	modules := []string{"part_gpt", "ext2", "search", "search_fs_uuid", "normal", "linux", "configfile", "echo", "test", "all_video"}
	core, efi := d.path+".core", d.path+".efi"
	for _, image := range []struct {
		name, format string
		more         []string
	}{{core, "i386-pc", []string{"biosdisk"}}, {efi, "x86_64-efi", []string{"fat", "efi_gop"}}} {
		args := append([]string{"-O", image.format, "-o", image.name, "-c", early, "-p", prefix}, modules...)
		if _, err := command(ctx, "grub-mkimage", append(args, image.more...)...); err != nil {
			return err
		}
	}
	esp := fmt.Sprintf("%s@@%dM", d.path, espStart)
	for _, args := range [][]string{
		{"mformat", "-i", esp, "-T", fmt.Sprint(espSize * mib / sector), "-N", d.espID(), "::"},
		{"mmd", "-i", esp, "::/EFI", "::/EFI/BOOT"},
		{"mcopy", "-i", esp, efi, "::/EFI/BOOT/BOOTX64.EFI"},
	} {
		if _, err := command(ctx, args[0], args[1:]...); err != nil {
			return err
		}
	}
	return d.writeBIOSCore(core)
}

// writeBIOSCore does what grub-bios-setup does, which insists on a block device: the first sector loads one sector of
// the core image, which holds the place of the others. Offsets: GRUB's include/grub/i386/pc/boot.h (KERNEL_SECTOR)
// and grub-core/boot/i386/pc/diskboot.S (the block list at the sector's end).
func (d *disk) writeBIOSCore(core string) error {
	const (
		bootCode     = 440 // bytes of the first sector before the disk signature
		kernelSector = 0x5c
		blockList    = 0x1f4
		coreStart    = grubStart * mib / sector
	)
	boot, err := os.ReadFile("/usr/lib/grub/i386-pc/boot.img")
	if err != nil {
		return fmt.Errorf("%w (package grub-pc-bin)", err)
	}
	b, err := os.ReadFile(core)
	if err != nil {
		return err
	}
	if len(boot) < bootCode || len(b) < 2*sector || len(b) > grubSize*mib {
		return fmt.Errorf("GRUB's images have %d and %d bytes", len(boot), len(b))
	}
	binary.LittleEndian.PutUint64(boot[kernelSector:], coreStart)
	binary.LittleEndian.PutUint64(b[blockList:], coreStart+1)
	f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err1 := f.WriteAt(boot[:bootCode], 0)
	_, err2 := f.WriteAt(b, grubStart*mib)
	return errors.Join(err1, err2, f.Close())
}

// qemuPath finds a program of QEMU's.
func qemuPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w (run scripts/setup e2e)", err)
	}
	return path, nil
}
