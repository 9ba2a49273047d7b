package inventory

import (
	"cmp"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/wire"
)

// devices lists /sys/block: disks first, so that a host of many logical volumes still has them within the limit.
func (c *collector) devices() {
	root := c.path("/sys/block")
	list := slices.DeleteFunc(names(root), func(name string) bool { return attr(filepath.Join(root, name), "hidden") == "1" })
	slices.SortFunc(list, byImportance)
	list = cut(c, "devices", list, wire.MaxInventoryDevices)
	seen := map[string]string{}
	for _, name := range list {
		if c.ctx.Err() != nil {
			return
		}
		d := c.device(name, filepath.Join(root, name))
		if d.Type == "disk" && d.Size > 0 {
			if other, ok := seen[d.ID]; ok {
				c.notef("devices", "%s has the id of %s (%s): another path to it, or a copy; it is replicated only if it is named", d.Name, other, d.ID)
			} else {
				seen[d.ID], d.Selected = d.Name, true
			}
		}
		c.inv.Devices = append(c.inv.Devices, d)
	}
}

// byImportance orders names: disks before others, sdb before sdaa.
func byImportance(a, b string) int {
	rank := func(name string) int {
		if deviceType(name) == "disk" {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func (c *collector) device(name, dir string) wire.BlockDevice {
	attrs := source.DeviceAttrs{Name: name}
	attrs.ReadSys(dir)
	devName := strings.ReplaceAll(name, "!", "/") // sysfs cannot have cciss/c0d0
	d := wire.BlockDevice{
		Name: name, Path: "/dev/" + devName, Type: deviceType(name),
		Size:          512 * number(dir, "size"),
		LogicalSector: int(number(dir, "queue/logical_block_size")), PhysicalSector: int(number(dir, "queue/physical_block_size")),
		Rotational: attr(dir, "queue/rotational") == "1", ReadOnly: attr(dir, "ro") == "1", Removable: attr(dir, "removable") == "1",
		MajorMinor: attr(dir, "dev"), DiskSeq: uint64(number(dir, "diskseq")),
		WWN: clip(attrs.WWN), Serial: clip(attrs.Serial), Vendor: clip(attrs.Vendor), Model: clip(attrs.Model),
		DMName: attr(dir, "dm/name"), DMUUID: clip(attrs.DMUUID), BackingFile: clip(attrs.BackingFile), RAIDLevel: attr(dir, "md/level"),
		Holders: c.relations(dir, "holders"), Slaves: c.relations(dir, "slaves"),
	}
	if c.readable(d, dir) {
		c.contents(&d, dir, &attrs)
	}
	d.ID = attrs.StableID()
	return d
}

// readable reports whether the bytes of a device are worth reading, and whether reading may wait for ever.
func (c *collector) readable(d wire.BlockDevice, dir string) bool {
	switch d.Type {
	case "ram", "zram", "cdrom", "floppy":
		return false
	}
	if attr(dir, "dm/suspended") == "1" {
		c.notef("devices", "%s is suspended: it was not read", d.Name)
		return false
	}
	return d.Size > 0
}

func (c *collector) relations(dir, kind string) []string {
	return cut(c, kind, names(filepath.Join(dir, kind)), wire.MaxInventoryRelation)
}

// deviceType goes by the kernel's names; see Documentation/admin-guide/devices.txt of Linux.
func deviceType(name string) string {
	base := strings.TrimRight(name, "0123456789")
	switch {
	case base == "loop", base == "ram", base == "zram", base == "md", base == "nbd", base == "bcache", base == "drbd", base == "mtdblock":
		return base
	case strings.HasPrefix(name, "md_"):
		return "md"
	case base == "dm-":
		return "dm"
	case base == "sr", base == "scd":
		return "cdrom"
	case base == "fd":
		return "floppy"
	case base == "zd":
		return "zvol"
	case strings.HasPrefix(name, "mmcblk") && strings.Contains(name, "boot"):
		return "boot" // a hardware partition for firmware
	}
	return "disk"
}

// number reads an attribute that is a decimal number; absent or odd ones are 0.
func number(dir, name string) int64 {
	n, err := strconv.ParseInt(attr(dir, name), 10, 53)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
