package convert

import (
	"regexp"
	"strconv"
	"strings"
)

// how tells what a volume was found by.
type how int

const (
	byNothing how = iota
	byID          // UUID, label or logical volume: the same on every hypervisor
	byName        // a name of one hypervisor's, whose disk and partition fit
	byGuess       // a name of one hypervisor's of which only the partition fits
)

// kernelName is a disk's name by its driver, with the number of a partition.
var kernelName = regexp.MustCompile(`^/dev/(?:(?:[hsv]|xv)d([a-z])([0-9]*)|(?:nvme([0-9]+)n1|mmcblk([0-9]+))(?:p([0-9]+))?|cciss/c[0-9]+d([0-9]+)(?:p([0-9]+))?)$`)

// otherPart is the number of a partition at the end of names that say where a disk was attached or who made it.
var otherPart = regexp.MustCompile(`^/dev/disk/by-(?:path|id)/.*-part([0-9]+)$|^/dev/mapper/mpath[a-z]+[-p]*(?:part)?([0-9]+)$`)

// find returns the volume that a source of fstab or of the kernel's command line names, or -1. Kind is the type of file system
// that the caller expects, "" or "auto" for any.
func (s *System) find(source, kind string) (int, how) {
	key, value, ok := strings.Cut(source, "=")
	if !ok {
		for prefix, k := range map[string]string{"/dev/disk/by-uuid/": "UUID", "/dev/disk/by-label/": "LABEL",
			"/dev/disk/by-partuuid/": "PARTUUID", "/dev/disk/by-partlabel/": "PARTLABEL"} {
			if rest, found := strings.CutPrefix(source, prefix); found {
				key, value, ok = k, strings.ReplaceAll(rest, `\x20`, " "), true
			}
		}
	}
	if ok {
		value = strings.ReplaceAll(unquote(value), `\040`, " ")
		for i, v := range s.Volumes {
			if value == "" {
				break
			}
			switch key {
			case "UUID":
				ok = strings.EqualFold(v.UUID, value)
			case "LABEL":
				ok = v.Label == value
			case "PARTUUID":
				ok = strings.EqualFold(v.PartUUID, value)
			case "PARTLABEL":
				ok = v.PartName == value
			default:
				ok = false
			}
			if ok {
				return i, byID
			}
		}
		return -1, byNothing
	}
	if lv := lvName(source); lv != "" {
		for i, v := range s.Volumes {
			if v.LV == lv {
				return i, byID
			}
		}
	}
	return s.findName(source, kind)
}

// findName understands names that another hypervisor gave.
func (s *System) findName(source, kind string) (int, how) {
	m := kernelName.FindStringSubmatch(source)
	if m == nil {
		m := otherPart.FindStringSubmatch(source)
		if m == nil {
			return -1, byNothing
		}
		number, _ := strconv.Atoi(m[1] + m[2])
		return s.guess(number, kind)
	}
	disk, number := 0, 0
	switch {
	case m[1] != "":
		disk = int(m[1][0] - 'a')
		number, _ = strconv.Atoi(m[2])
	default:
		disk, _ = strconv.Atoi(m[3] + m[4] + m[6])
		number, _ = strconv.Atoi(m[5] + m[7])
	}
	for i, v := range s.Volumes {
		if v.LV == "" && v.Disk == disk && v.Partition == number && fits(v.Type, kind) {
			return i, byName
		}
	}
	return s.guess(number, kind)
}

// guess takes the partition of that number if only one disk has such a one that fits.
func (s *System) guess(number int, kind string) (int, how) {
	found := -1
	for i, v := range s.Volumes {
		if v.LV != "" || v.Partition != number || !fits(v.Type, kind) {
			continue
		}
		if found >= 0 {
			return -1, byNothing
		}
		found = i
	}
	if found < 0 {
		return -1, byNothing
	}
	return found, byGuess
}

// fits reports whether a volume of one type can be what is mounted as another.
func fits(have, want string) bool {
	ext := func(s string) bool { return s == "ext2" || s == "ext3" || s == "ext4" }
	switch want {
	case "", "auto":
		return have != "" && have != "swap" && have != "lvm2"
	case "msdos":
		want = "vfat"
	}
	return have == want || ext(have) && ext(want)
}

// lvName undoes the names that device mapper and LVM give logical volumes.
func lvName(source string) string {
	if rest, ok := strings.CutPrefix(source, "/dev/mapper/"); ok {
		// A hyphen in a name is doubled; a single one is between group and volume.
		group, volume, ok := strings.Cut(strings.ReplaceAll(rest, "--", "\x00"), "-")
		if !ok {
			return ""
		}
		return strings.ReplaceAll(group+"/"+volume, "\x00", "-")
	}
	rest, ok := strings.CutPrefix(source, "/dev/")
	if group, volume, two := strings.Cut(rest, "/"); ok && two && group != "disk" && !strings.Contains(volume, "/") {
		return group + "/" + volume
	}
	return ""
}

// stable is a name of a volume that is the same on every hypervisor, or "" if it has none.
func (s *System) stable(i int) string {
	v := s.Volumes[i]
	switch {
	case v.LV != "":
		group, volume, _ := strings.Cut(v.LV, "/")
		double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
		return "/dev/mapper/" + double(group) + "-" + double(volume)
	case v.UUID != "":
		return "UUID=" + v.UUID
	case v.PartUUID != "":
		return "PARTUUID=" + v.PartUUID
	}
	return ""
}
