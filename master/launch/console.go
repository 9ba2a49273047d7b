package launch

import (
	"regexp"
	"strings"
)

// cause is why a machine does not come up, as its console tells it.
type cause struct {
	words string
	fatal bool // it will not come up any more: nobody need wait
}

// sign is something on a console that tells a cause. In words, $1 is what the first group of the pattern found.
type sign struct {
	pattern *regexp.Regexp
	words   string
	fatal   bool
}

// signs are in order: the most telling first, whichever the console shows last. Each is a line that a real boot loader, initramfs or kernel prints.
var signs = []sign{
	// initramfs-tools, after it has waited for the root.
	{regexp.MustCompile(`(?m)ALERT!\s+(\S{1,200}) does not exist\.`), "root device not found: $1 (the initramfs has no driver for the disk, or the boot loader names it by an old name)", true},
	// dracut, when it gives up.
	{regexp.MustCompile(`(?m)dracut[^\n]{0,80}Warning: (/dev/\S{1,200}) does not exist`), "root device not found: $1 (the initramfs has no driver for the disk, or the boot loader names it by an old name)", true},
	{regexp.MustCompile(`(?m)Warning: (/dev/\S{1,200}) does not exist`), "root device not found: $1 (the initramfs has no driver for the disk, or the boot loader names it by an old name)", true},
	// mkinitcpio.
	{regexp.MustCompile(`(?m)ERROR: device '([^'\n]{1,200})' not found`), "root device not found: $1 (the initramfs has no driver for the disk, or the boot loader names it by an old name)", true},
	// The kernel without a usable initramfs.
	{regexp.MustCompile(`(?m)VFS: Cannot open root device "([^"\n]{1,200})"`), "root device not found: $1 (the kernel has no driver for the disk, or no initramfs)", true},
	{regexp.MustCompile(`(?m)Cannot open root device "?([^"\n ]{1,200})"?`), "root device not found: $1 (the kernel has no driver for the disk, or no initramfs)", true},
	{regexp.MustCompile(`(?m)VFS: Unable to mount root fs on ([^\n]{1,100})`), "the root file system could not be mounted ($1): no driver for the disk or the file system, or no initramfs", true},
	// Boot loaders.
	{regexp.MustCompile(`(?m)^\s*grub rescue>`), "GRUB finds neither its modules nor its configuration: its disk is not the one that it was installed for", true},
	{regexp.MustCompile(`(?m)error: no such device: ([0-9A-Za-z-]{1,100})\.`), "GRUB finds no file system with the id $1", false},
	{regexp.MustCompile(`(?m)error: (?:disk|no such partition)[^\n]{0,100}`), "GRUB does not find the disk or partition that it was installed for", false},
	{regexp.MustCompile(`(?m)error: file .(/\S{1,200}). not found`), "GRUB does not find $1", false},
	{regexp.MustCompile(`(?m)^\s*grub>\s*$`), "GRUB has no configuration, and waits for commands", true},
	// Firmware.
	{regexp.MustCompile(`(?m)No bootable device`), "the firmware finds no disk to start from: no boot loader, or one for other firmware (BIOS and UEFI)", true},
	{regexp.MustCompile(`(?m)(?:Boot failed: not a bootable disk)`), "the firmware finds no boot loader on the disk", false},
	{regexp.MustCompile(`(?m)Shell>\s*$`), "UEFI found nothing to start and shows its shell: no boot loader on an EFI system partition", true},
	{regexp.MustCompile(`(?m)BdsDxe: failed to (?:load|start) Boot[0-9A-F]{4}[^\n]{0,200}: Not Found`), "UEFI does not find the boot loader that it is told to start", false},
	{regexp.MustCompile(`(?m)BdsDxe: No bootable option or device was found`), "UEFI finds nothing to start: no boot loader on an EFI system partition", true},
	{regexp.MustCompile(`(?m)Security Violation|Verification failed: \(0x1A\)`), "Secure Boot refuses the boot loader", true},
	// Later.
	{regexp.MustCompile(`(?m)Timed out waiting for device ([^\n]{1,160}?)(?:\.\s*)?$`), "a device that /etc/fstab names is not there: $1", false},
	{regexp.MustCompile(`(?m)Dependency failed for ([^\n]{1,160}?)(?:\.\s*)?$`), "not started, because what it needs failed: $1", false},
	{regexp.MustCompile(`(?m)[Cc]annot open access to console, the root account is locked`), "the system went into emergency mode", true},
	{regexp.MustCompile(`(?m)You are in (?:emergency|rescue) mode|Entering emergency mode|Welcome to emergency mode|Reached target[^\n]{0,40}[Ee]mergency`), "the system went into emergency mode", true},
	{regexp.MustCompile(`(?m)\(initramfs\)\s*$`), "the initramfs gave up, and shows its shell", true},
	{regexp.MustCompile(`(?m)dracut:/#\s*$`), "the initramfs gave up, and shows its shell", true},
	{regexp.MustCompile(`(?m)Kernel panic - not syncing: ([^\n]{1,200})`), "the kernel panicked: $1", true},
	{regexp.MustCompile(`(?m)FATAL: kernel too old`), "the programs of the system are newer than its kernel", true},
}

// likelyCause looks for the most telling sign; fatal is so if any sign says so.
func likelyCause(console []byte) (cause, bool) {
	text := plain(console)
	var best cause
	found := false
	for _, s := range signs {
		all := s.pattern.FindAllStringSubmatchIndex(text, -1)
		if len(all) == 0 {
			continue
		}
		last := all[len(all)-1]
		if !found {
			best.words = clean(string(s.pattern.ExpandString(nil, s.words, text, last)), maxLine)
			found = true
		}
		best.fatal = best.fatal || s.fatal
	}
	return best, found
}

var ready = regexp.MustCompile(`(?m)^[^\n]{0,100}\blogin:\s*$|Reached target[^\n]{0,60}(?:[Mm]ulti-[Uu]ser|[Gg]raphical)`)

// booted reports whether the console shows that the system is up.
func booted(console []byte) bool { return ready.MatchString(strings.TrimRight(plain(console), " ")) }
