package launch

import (
	"strings"
	"testing"
)

// Texts of real consoles: boot loaders, initramfs tools, kernels and systemd, as they write them.
func TestLikelyCause(t *testing.T) {
	for name, tt := range map[string]struct {
		console, words string
		fatal          bool
	}{
		"initramfs-tools": {"Begin: Running /scripts/local-block ... done.\r\nGave up waiting for root file system device.  Common problems:\r\n - Boot args (cat /proc/cmdline)\r\nALERT!  /dev/sda1 does not exist.  Dropping to a shell!\r\n\r\nBusyBox v1.35.0 (Debian 1:1.35.0-4+b3) built-in shell (ash)\r\n(initramfs) ",
			"root device not found: /dev/sda1", true},
		"initramfs-tools, UUID": {"ALERT!  UUID=0a1b2c3d-0000-4444-8888-aaaaaaaaaaaa does not exist.  Dropping to a shell!", "root device not found: UUID=0a1b2c3d-0000-4444-8888-aaaaaaaaaaaa", true},
		"dracut": {"[  192.003] dracut-initqueue[421]: Warning: dracut-initqueue: timeout, still waiting for following initqueue hooks:\n[  192.1] dracut-initqueue[421]: Warning: /dev/disk/by-uuid/5c9d7b9e-1f does not exist\n\nGenerating \"/run/initramfs/rdsosreport.txt\"\n\nEntering emergency mode. Exit the shell to continue.\n",
			"root device not found: /dev/disk/by-uuid/5c9d7b9e-1f", true},
		"mkinitcpio":   {":: running hook [udev]\nERROR: device '/dev/sda2' not found. Skipping fsck.\n:: mounting '/dev/sda2' on real root\n", "root device not found: /dev/sda2", true},
		"kernel, name": {"[    2.1] VFS: Cannot open root device \"sda1\" or unknown-block(0,0): error -6\n[    2.2] Please append a correct \"root=\" boot option\n[    2.3] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n", "root device not found: sda1", true},
		"kernel":       {"[    2.3] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n[    2.3] CPU: 0 PID: 1", "the root file system could not be mounted (unknown-block(0,0))", true},
		"init":         {"[    1.9] Kernel panic - not syncing: No working init found.  Try passing init= option to kernel.", "the kernel panicked: No working init found.", true},
		"grub rescue":  {"error: unknown filesystem.\nEntering rescue mode...\ngrub rescue> ", "GRUB finds neither its modules", true},
		"grub, device": {"error: no such device: 1234-ABCD.\n\nPress any key to continue...", "GRUB finds no file system with the id 1234-ABCD", false},
		"SeaBIOS":      {"Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device.\n", "the firmware finds no disk to start from", true},
		"OVMF":         {"BdsDxe: failed to load Boot0001 \"UEFI QEMU HARDDISK QM00001 \" from PciRoot(0x0)/Pci(0x3,0x0): Not Found\n", "UEFI does not find the boot loader", false},
		"OVMF, shell":  {"UEFI Interactive Shell v2.2\nPress ESC in 1 seconds to skip startup.nsh\x1b[1m\nShell> ", "UEFI found nothing to start", true},
		"OVMF, none":   {"BdsDxe: No bootable option or device was found.\nBdsDxe: Press any key to enter the Boot Manager Menu.", "UEFI finds nothing to start", true},
		"fstab": {"[\x1b[0;1;31m TIME \x1b[0m] Timed out waiting for device \x1b[0;1;39mdev-disk-by\\x2duuid-77.device\x1b[0m - /dev/disk/by-uuid/77.\r\n[\x1b[0;1;38:5:185mDEPEND\x1b[0m] Dependency failed for \x1b[0;1;39mdata.mount\x1b[0m - /data.\r\nYou are in emergency mode. After logging in, type \"journalctl -xb\" to view\r\n",
			"a device that /etc/fstab names is not there: dev-disk-by\\x2duuid-77.device - /dev/disk/by-uuid/77", true},
		"locked":    {"Cannot open access to console, the root account is locked.\nSee sulogin(8) man page for more details.", "the system went into emergency mode", true},
		"data disk": {"Timed out waiting for device /dev/sdb1.\n[  OK  ] Reached target Multi-User System.\n", "a device that /etc/fstab names is not there: /dev/sdb1", false},
	} {
		got, found := likelyCause([]byte(tt.console))
		if !found || !strings.HasPrefix(got.words, tt.words) || got.fatal != tt.fatal {
			t.Errorf("%s: %q, fatal %v, found %v", name, got.words, got.fatal, found)
		}
	}
	for name, console := range map[string]string{"a good boot": goodBoot, "nothing": "", "noise": strings.Repeat("\x00\xff\x1b[", 1000)} {
		if got, found := likelyCause([]byte(console)); found {
			t.Errorf("%s: %q", name, got.words)
		}
	}
}

func TestBooted(t *testing.T) {
	for console, want := range map[string]bool{
		goodBoot:          true,
		"\r\ndb1 login: ": true,
		"Rocky Linux 9.3\nKernel 5.14 on an x86_64\n\nlocalhost login:":   true,
		"[  OK  ] Reached target \x1b[0;1;39mGraphical Interface\x1b[0m.": true,
		"Password for last login: none":                                   false,
		"[  OK  ] Reached target Basic System.":                           false,
		"":                                                                false,
	} {
		if got := booted([]byte(console)); got != want {
			t.Errorf("%q: %v", console, got)
		}
	}
}

// TestHostileConsole: whatever a guest writes, what is shown of it is a few printable lines.
func TestHostileConsole(t *testing.T) {
	hostile := "\x1b]0;evil\x07\x1b[2J\x9b31m\x00\x08\u202e" + strings.Repeat("A", 100_000) + "\nlast line\x1b[?1049h\n"
	got := tail([]byte(hostile))
	if len(got) > maxTail+maxTailWidth || strings.ContainsAny(got, "\x1b\x07\x08\x00\u202e\u009b") || !strings.HasSuffix(got, "last line") {
		t.Errorf("%d bytes: %.100q", len(got), got)
	}
	if got := clean("a\nb\x1b[31m \u202ec", 4); got != "a b …" {
		t.Errorf("%q", got)
	}
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte(goodBoot))
	f.Add([]byte("ALERT!  /dev/sda1 does not exist.\x1b["))
	f.Fuzz(func(t *testing.T, b []byte) {
		booted(b)
		c, _ := likelyCause(b)
		if strings.ContainsAny(c.words+tail(b), "\x1b\x00\x07") || len(c.words) > maxLine+4 {
			t.Errorf("%q", c.words)
		}
	})
}
