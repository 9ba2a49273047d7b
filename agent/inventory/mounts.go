package inventory

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/openmigrate/openmigrate/internal/mountinfo"
	"github.com/openmigrate/openmigrate/wire"
)

// filesystems lists what is mounted. Bind mounts are left out, as are file systems without a device; btrfs has subvolumes and a device number of its own making.
func (c *collector) filesystems() {
	var list []wire.Filesystem
	seen := map[string]bool{}
	err := mountinfo.Read(strings.NewReader(c.read("filesystems", "/proc/self/mountinfo")), func(m mountinfo.Mount) {
		fs := wire.Filesystem{
			Source: clip(m.Source), Mountpoint: clip(m.Point), Type: clip(m.Type), ReadOnly: mountinfo.HasOption(m.Options, "ro"),
		}
		subvolumes := fs.Type == "btrfs"
		if (strings.HasPrefix(m.Device, "0:") && !subvolumes) || (m.Root != "/" && !subvolumes) || seen[m.Device+m.Point] {
			return
		}
		seen[m.Device+m.Point] = true
		fs.Device = c.deviceName(m.Device, fs.Source)
		list = append(list, fs)
	})
	c.note("filesystems", err)
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
			list = append(list, wire.Swap{Path: clip(mountinfo.Unescape(f[0])), Type: clip(f[1]), Size: kib << 10})
		}
	}
	c.inv.Swaps = cut(c, "swaps", list, wire.MaxSwaps)
}
