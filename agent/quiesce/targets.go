package quiesce

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/mountinfo"
)

// host is where the kernel tells of devices and mounts.
type host struct{ sys, proc string }

// Targets finds the file systems that lie on disks, directly, on partitions, or through device mapper, md and loop devices, in the
// order in which to freeze them: a file system on a loop device before the one that holds its file. Each is named once, also if it is
// mounted many times or in another mount namespace. Behind them are those that can only be synced. notFrozen says of others that are written to and cannot be
// frozen why.
func Targets(disks []string) (mounts []Mount, notFrozen []string, err error) {
	return host{sys: "/sys", proc: "/proc"}.targets(disks)
}

func (h host) targets(disks []string) (mounts []Mount, notFrozen []string, err error) {
	ours := map[string]bool{}
	for _, path := range disks {
		n, err := number(path)
		if err != nil {
			return nil, nil, fmt.Errorf("find file systems: %w", err)
		}
		ours[n] = true
	}
	all, err := h.mounts()
	if err != nil {
		return nil, nil, fmt.Errorf("find file systems: %w", err)
	}
	type target struct {
		Mount
		depth int
	}
	var found []target
	for _, m := range all {
		if len(m.devices) == 0 {
			if !m.readOnly {
				notFrozen = append(notFrozen, fmt.Sprintf("%s on %s may be on any disk, and cannot be frozen", m.fstype, m.point))
			}
			continue
		}
		on, depth := h.under(m.devices, all, 0)
		if m.readOnly || !slices.ContainsFunc(on, func(d string) bool { return ours[d] }) {
			continue
		}
		synced := canSync[m.fstype] && h.direct(m.devices, ours)
		if !synced && !canFreeze[m.fstype] {
			notFrozen = append(notFrozen, fmt.Sprintf("%s on %s cannot be frozen", m.fstype, m.point))
			continue
		}
		found = append(found, target{Mount{Point: m.open, FSType: m.fstype, Devices: m.devices, Synced: synced}, depth})
	}
	slices.SortStableFunc(found, func(a, b target) int {
		if a.Synced != b.Synced {
			return map[bool]int{true: 1, false: -1}[a.Synced]
		}
		return cmp.Compare(b.depth, a.depth)
	})
	for _, t := range found {
		mounts = append(mounts, t.Mount)
	}
	return mounts, notFrozen, nil
}

// canFreeze are the file systems of fs/*/super.c with a freeze_fs or freeze_super operation.
var canFreeze = map[string]bool{"ext2": true, "ext3": true, "ext4": true, "xfs": true, "btrfs": true, "f2fs": true, "jfs": true, "nilfs2": true, "gfs2": true,
	"bcachefs": true}

// canSync are file systems without a log, which cannot be frozen: what is on the disk is whole once all was written back, until something more is written. The
// EFI system partition is one.
var canSync = map[string]bool{"vfat": true, "msdos": true}

// direct reports whether a file system is on one of the disks itself, or on a partition of it.
func (h host) direct(devices []string, ours map[string]bool) bool {
	if len(devices) != 1 {
		return false
	}
	if ours[devices[0]] {
		return true
	}
	dir := filepath.Join(h.sys, "dev/block", devices[0])
	if _, err := os.Stat(filepath.Join(dir, "partition")); err != nil {
		return false
	}
	real, err := filepath.EvalSymlinks(dir)
	return err == nil && ours[readLine(filepath.Join(filepath.Dir(real), "dev"))]
}

// pooled are file systems whose source may name a pool, of which it is not known here on what disks it is.
var pooled = map[string]bool{"zfs": true, "bcachefs": true}

// mount is a file system that is mounted from block devices.
type mount struct {
	super    string // major:minor that stat reports of its files
	point    string
	open     string // where this process can open it
	fstype   string
	readOnly bool
	devices  []string // major:minor; none: not known
}

// maxNamespaces bounds how many mount namespaces are looked at.
const maxNamespaces = 4096

// mounts lists file systems once each, in this mount namespace and then in the others.
func (h host) mounts() ([]mount, error) {
	all, err := h.mountsOf("self", "")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	own, _ := os.Readlink(filepath.Join(h.proc, "self/ns/mnt"))
	seen[own] = true
	procs, err := os.ReadDir(h.proc)
	if err != nil {
		return nil, err
	}
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		ns, err := os.Readlink(filepath.Join(h.proc, p.Name(), "ns/mnt"))
		if err != nil || seen[ns] || len(seen) > maxNamespaces {
			continue // it ended, or is one of the kernel's
		}
		seen[ns] = true
		more, err := h.mountsOf(p.Name(), filepath.Join(h.proc, p.Name(), "root"))
		if err != nil {
			continue
		}
		all = append(all, more...)
	}
	known := map[string]int{}
	var once []mount
	for _, m := range all {
		if i, twice := known[m.super]; twice {
			once[i].readOnly = once[i].readOnly && m.readOnly
			continue
		}
		known[m.super] = len(once)
		once = append(once, m)
	}
	return once, nil
}

// mountsOf reads a process's mounts.
func (h host) mountsOf(pid, root string) ([]mount, error) {
	f, err := os.Open(filepath.Join(h.proc, pid, "mountinfo"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []mount
	err = mountinfo.Read(f, func(i mountinfo.Mount) {
		m := mount{super: i.Device, point: i.Point, open: filepath.Join(root, i.Point), fstype: i.Type,
			readOnly: mountinfo.HasOption(i.Super, "ro"), devices: h.devices(i.Device, i.Source)}
		if len(m.devices) > 0 || pooled[m.fstype] {
			all = append(all, m)
		}
	})
	return all, err
}

// devices are the block devices of a file system. btrfs has a number that is no device's: its devices are those of the file system that
// its source belongs to.
func (h host) devices(super, source string) []string {
	if !strings.HasPrefix(super, "0:") {
		return []string{super}
	}
	if !strings.HasPrefix(source, "/") {
		return nil
	}
	n, err := number(source)
	if err != nil {
		return nil
	}
	all := []string{n}
	lists, _ := filepath.Glob(filepath.Join(h.sys, "fs/btrfs/*/devices"))
	for _, list := range lists {
		var members []string
		entries, _ := os.ReadDir(list)
		for _, e := range entries {
			if m, err := os.ReadFile(filepath.Join(list, e.Name(), "dev")); err == nil {
				members = append(members, strings.TrimSpace(string(m)))
			}
		}
		if slices.Contains(members, n) {
			all = append(all, members...)
		}
	}
	return all
}

// Number is the major:minor of a block device.
func Number(path string) (string, error) { return number(path) }

func number(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", fmt.Errorf("%s: %w", path, errNotBlock)
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

var errNotBlock = errors.New("not a block device")

// maxDepth bounds how many devices lie on each other.
const maxDepth = 32

// under lists devices and all that they lie on, and through how many loop devices at most.
func (h host) under(devices []string, mounts []mount, level int) (all []string, loops int) {
	if level > maxDepth {
		return nil, 0
	}
	for _, d := range devices {
		all = append(all, d)
		dir := filepath.Join(h.sys, "dev/block", d)
		var below []string
		if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
			if real, err := filepath.EvalSymlinks(dir); err == nil {
				below = append(below, readLine(filepath.Join(filepath.Dir(real), "dev")))
			}
		}
		slaves, _ := os.ReadDir(filepath.Join(dir, "slaves"))
		for _, s := range slaves {
			below = append(below, readLine(filepath.Join(dir, "slaves", s.Name(), "dev")))
		}
		more, n := h.under(below, mounts, level+1)
		all, loops = append(all, more...), max(loops, n)
		if file := readLine(filepath.Join(dir, "loop/backing_file")); file != "" {
			more, n := h.under(holding(file, mounts), mounts, level+1)
			all, loops = append(all, more...), max(loops, n+1)
		}
	}
	return all, loops
}

// holding are the devices of the file system that a file is on.
func holding(file string, mounts []mount) []string {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return nil
	}
	super := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	for _, m := range mounts {
		// btrfs gives each subvolume a number of its own: the longest mount point that leads to the file tells.
		if m.super == super {
			return m.devices
		}
	}
	best := -1
	var devices []string
	for _, m := range mounts {
		if len(m.point) > best && (strings.HasPrefix(file, strings.TrimSuffix(m.point, "/")+"/")) {
			best, devices = len(m.point), m.devices
		}
	}
	return devices
}

func readLine(name string) string {
	b, _ := os.ReadFile(name) // what is not there says nothing
	return strings.TrimSpace(string(b))
}
