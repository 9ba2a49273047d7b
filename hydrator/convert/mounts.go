package convert

import (
	"errors"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// withRoot mounts the root and what belongs to it for as long as fn runs.
func (s *System) withRoot(space *disks.Space, readOnly bool, fn func(*tree.Tree) error) (err error) {
	s.Mounts = nil
	if err := space.Mount(s.Disks, s.root(), "", subvolOption(s.Subvol), readOnly); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, space.Unmount()) }()
	t, err := tree.Open(space.Dir())
	if err != nil {
		return err
	}
	defer t.Close()
	s.Mounts = []Mount{{Volume: s.Root, Point: "."}}
	if err := s.mountMore(space, t, readOnly); err != nil {
		return err
	}
	return fn(t)
}

// needed are the folders that conversion reads or writes; wanted those that tell a little more.
var (
	needed = []string{"/usr", "/boot", "/var", "/etc", "/var/lib", "/boot/grub", "/boot/grub2"}
	wanted = []string{"/opt", "/usr/local"}
)

// mountMore mounts what fstab mounts in folders that conversion needs.
func (s *System) mountMore(space *disks.Space, t *tree.Tree, readOnly bool) error {
	b, err := t.ReadFile("/etc/fstab")
	if err != nil {
		return nil // Detect has seen one; a root without is a root alone
	}
	f := parseFstab(b)
	entries := f.entries()
	slices.SortStableFunc(entries, func(a, b *fstabEntry) int { return strings.Count(a.point(), "/") - strings.Count(b.point(), "/") })
	for _, e := range entries {
		must := slices.Contains(needed, e.point())
		if !must && !slices.Contains(wanted, e.point()) || e.skipped() || e.virtual() || e.remote() {
			continue
		}
		i, _ := s.findEntry(f, e)
		if !must && (i < 0 || !s.Volumes[i].Mountable()) {
			continue
		}
		if i < 0 {
			return refuse("/etc/fstab mounts %s on %s, which is on none of the disks: replicate the disk that holds it", e.source(), e.point())
		}
		v := s.Volumes[i]
		switch {
		case v.Type == "vfat":
			return refuse("%s is mounted on %s and has FAT: kernels on the EFI system partition (systemd-boot) are not supported yet, move them to a "+
				"file system of Linux's", v, e.point())
		case !v.Mountable():
			return refuse("%s, which /etc/fstab mounts on %s, cannot be opened: it is %q: %s", v, e.point(), v.Type, v.Trouble)
		}
		point, err := t.Resolve(e.point())
		if err != nil || !t.Exists(point) {
			return refuse("/etc/fstab mounts %s on %s, but that folder is not there", v, e.point())
		}
		var options []string
		for _, o := range e.options() {
			if strings.HasPrefix(o, "subvol=") && v.Type == "btrfs" && !strings.Contains(o, ",") {
				options = append(options, o)
			}
		}
		if err := space.Mount(s.Disks, v, point, options, readOnly); err != nil {
			return err
		}
		s.Mounts = append(s.Mounts, Mount{i, point, options})
	}
	return nil
}
