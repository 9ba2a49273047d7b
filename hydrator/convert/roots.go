package convert

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// subvolumes are where distributions keep the root on btrfs, if it is not in the default subvolume.
var subvolumes = []string{"", "@", "root", "@rootfs"}

// candidate is a volume that looks like a root.
type candidate struct {
	volume int
	subvol string
	named  bool // its own fstab says that it is the root
}

// findRoot looks into every file system for one that holds a system.
func (s *System) findRoot(ctx context.Context, space *disks.Space) error {
	var found []candidate
	for i, v := range s.Volumes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !v.Mountable() {
			continue
		}
		c, ok, err := s.lookAt(space, i)
		if err != nil {
			s.note("%v: %v", v, err)
		} else if ok {
			found = append(found, c)
		}
	}
	if named := slices.DeleteFunc(slices.Clone(found), func(c candidate) bool { return !c.named }); len(named) > 0 {
		found = named
	}
	switch len(found) {
	case 0:
		return s.noRoot()
	case 1:
		s.Root, s.Subvol = found[0].volume, found[0].subvol
		return nil
	}
	var names []string
	for _, c := range found {
		names = append(names, s.Volumes[c.volume].String())
	}
	return refuse("there are several systems, on %s: remove the disks or partitions that do not belong to the one that should start",
		strings.Join(names, ", "))
}

func (s *System) lookAt(space *disks.Space, i int) (c candidate, ok bool, err error) {
	v := s.Volumes[i]
	names := subvolumes
	if v.Type != "btrfs" {
		names = names[:1]
	}
	for _, name := range names {
		if err := space.Mount(s.Disks, v, "", subvolOption(name), true); err != nil {
			if name != "" {
				continue // there is no such subvolume
			}
			return c, false, err
		}
		ok, named, err := s.looksLikeRoot(space, i)
		if err := errors.Join(err, space.Unmount()); err != nil {
			return c, false, err
		}
		if ok {
			return candidate{i, name, named}, true, nil
		}
	}
	return c, false, nil
}

func subvolOption(name string) []string {
	if name == "" {
		return nil
	}
	return []string{"subvol=" + name}
}

func (s *System) looksLikeRoot(space *disks.Space, i int) (ok, named bool, err error) {
	t, err := tree.Open(space.Dir())
	if err != nil {
		return false, false, err
	}
	defer t.Close()
	if t.Any("/etc/os-release", "/usr/lib/os-release", "/etc/redhat-release", "/etc/debian_version", "/etc/SuSE-release") == "" || !t.Exists("/etc/fstab") {
		return false, false, nil
	}
	b, err := t.ReadFile("/etc/fstab")
	if err != nil {
		return true, false, nil
	}
	for _, e := range parseFstab(b).entries() {
		if e.point() == "/" {
			j, how := s.find(e.source(), e.kind())
			return true, j == i && how != byGuess, nil
		}
	}
	return true, false, nil
}

// noRoot explains what stands in the way, as well as the disks tell.
func (s *System) noRoot() error {
	var why []string
	for _, v := range s.Volumes {
		switch {
		case v.Type == "luks1" || v.Type == "luks2":
			why = append(why, v.String()+" is encrypted (LUKS): decrypt the root on the source, or move the machine with its key by other means")
		case v.Type == "md":
			why = append(why, v.String()+" is part of a software RAID (md): replicate the array's own device (/dev/md…) as a disk in place of its members")
		case v.Trouble != "":
			why = append(why, v.String()+" cannot be opened: "+v.Trouble)
		case v.Type == "ntfs" || v.Type == "exfat":
			why = append(why, v.String()+" has "+v.Type+": Windows cannot be converted yet")
		case v.Type == "" && v.Size >= 64<<20:
			why = append(why, v.String()+" has no file system that is known here")
		}
	}
	why = append(why, s.Notes...)
	if len(why) == 0 {
		return refuse("no root file system was found on the disks: is the boot disk among them?")
	}
	return refuse("no root file system was found: %s", strings.Join(why, "; "))
}
