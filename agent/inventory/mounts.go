package inventory

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/openmigrate/openmigrate/wire"
)

// filesystems reads mountinfo (proc_pid_mountinfo(5)):
//
//	36 35 8:1 / /mnt rw,noatime shared:1 - ext4 /dev/root rw,errors=continue
//
// Bind mounts are left out, as are file systems without a device; btrfs has subvolumes and a device number of its own making.
func (c *collector) filesystems() {
	var list []wire.Filesystem
	seen := map[string]bool{}
	for line := range strings.Lines(c.read("filesystems", "/proc/self/mountinfo")) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 2 {
			continue
		}
		fs := wire.Filesystem{
			Source: clip(unescape(g[1])), Mountpoint: clip(unescape(f[4])), Type: clip(g[0]),
			ReadOnly: hasOption(f[5], "ro"),
		}
		subvolumes := fs.Type == "btrfs"
		if (strings.HasPrefix(f[2], "0:") && !subvolumes) || (f[3] != "/" && !subvolumes) || seen[f[2]+f[4]] {
			continue
		}
		seen[f[2]+f[4]] = true
		fs.Device = c.deviceName(f[2], fs.Source)
		list = append(list, fs)
	}
	c.inv.Filesystems = cut(c, "filesystems", list, wire.MaxFilesystems)
}

// deviceName finds the kernel's name of a device number, and gives the number if there is none.
func (c *collector) deviceName(majorMinor, source string) string {
	if strings.HasPrefix(majorMinor, "0:") {
		name := strings.TrimPrefix(source, "/dev/")
		for _, d := range c.inv.Devices {
			if d.DMName != "" && name == "mapper/"+d.DMName {
				return d.Name
			}
		}
		return name
	}
	if !isMajorMinor(majorMinor) {
		return clip(majorMinor)
	}
	if dir, err := filepath.EvalSymlinks(c.path("/sys/dev/block/" + majorMinor)); err == nil {
		return filepath.Base(dir)
	}
	return majorMinor
}

func isMajorMinor(s string) bool { return s != "" && strings.Trim(s, "0123456789:") == "" }

// swaps reads /proc/swaps: a heading, then path, type, size in KiB, used, priority.
func (c *collector) swaps() {
	var list []wire.Swap
	for line := range strings.Lines(c.read("swaps", "/proc/swaps")) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		if kib, err := strconv.ParseInt(f[2], 10, 52); err == nil {
			list = append(list, wire.Swap{Path: clip(unescape(f[0])), Type: clip(f[1]), Size: kib << 10})
		}
	}
	c.inv.Swaps = cut(c, "swaps", list, wire.MaxSwaps)
}

func hasOption(options, want string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == want {
			return true
		}
	}
	return false
}

// unescape undoes the kernel's \040 for a space and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
