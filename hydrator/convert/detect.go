package convert

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// Detect looks at the disks of one machine, in the order in which the machine has them, and says what is on them. Nothing is
// written: file systems are mounted read-only, without replaying their journals, where nobody else sees them.
// Errors that are ErrRefused say what cannot be converted and what to do about it. It needs root.
func Detect(ctx context.Context, paths []string) (*System, error) {
	if len(paths) == 0 {
		return nil, refuse("no disks were given")
	}
	s := &System{Root: -1, ESP: -1}
	var err error
	if s.Disks, s.Volumes, err = disks.Scan(paths); err != nil {
		return nil, fmt.Errorf("detect system: %w", err)
	}
	err = disks.Private(ctx, func(space *disks.Space) error {
		if err := s.findRoot(ctx, space); err != nil {
			return err
		}
		return s.withRoot(space, true, s.inspect)
	})
	if err != nil {
		return nil, fmt.Errorf("detect system: %w", err)
	}
	return s, nil
}

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

func (s *System) note(format string, args ...any) {
	if len(s.Notes) < 64 {
		s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
	}
}

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

// inspect fills in what the mounted system is.
func (s *System) inspect(t *tree.Tree) error {
	s.describe(t)
	switch {
	case s.Arch == "":
		return refuse("no program for a known processor was found in the system")
	case s.Arch != runtime.GOARCH:
		return refuse("the system is for %s processors, and this hydrator has %s: run the conversion on a hydrator of that kind", s.Arch, runtime.GOARCH)
	}
	return nil
}

// describe looks at files only.
func (s *System) describe(t *tree.Tree) {
	s.OS = readOS(t)
	s.Arch = readArch(t)
	s.ESP = slices.IndexFunc(s.Volumes, func(v disks.Volume) bool {
		return v.Type == "vfat" && (v.PartType == "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" || v.PartType == "ef")
	})
	s.Initramfs = ""
	for _, tool := range initramfsTools {
		if tool.installed(t) {
			s.Initramfs = tool.name()
			break
		}
	}
	s.Loaders = readLoaders(t)
	s.Kernels = readKernels(t, s.Initramfs)
	s.Networks = readNetworks(t)
	s.GuestTools = readGuestTools(t)
	s.CloudInit = t.Any("/usr/bin/cloud-init", "/etc/cloud/cloud.cfg") != ""
	s.SELinux = readSELinux(t)
	s.Multipath = t.Any("/sbin/multipathd", "/usr/sbin/multipathd") != ""
}

func readOS(t *tree.Tree) OS {
	values := readVariables(t, t.Any("/etc/os-release", "/usr/lib/os-release"))
	o := OS{ID: values["ID"], Version: values["VERSION_ID"], Name: values["PRETTY_NAME"]}
	if o.ID == "" {
		switch t.Any("/etc/redhat-release", "/etc/debian_version", "/etc/SuSE-release") {
		case "/etc/redhat-release":
			o.ID = "rhel"
		case "/etc/debian_version":
			o.ID = "debian"
		case "/etc/SuSE-release":
			o.ID = "suse"
		}
	}
	o.Like = append([]string{o.ID}, strings.Fields(values["ID_LIKE"])...)
	return o
}

// readVariables reads a file of shell assignments; a file that cannot be read has none.
func readVariables(t *tree.Tree, name string) map[string]string {
	values := map[string]string{}
	if name == "" {
		return values
	}
	b, err := t.ReadFile(name)
	if err != nil {
		return values
	}
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && len(values) < 1000 {
			values[strings.TrimSpace(key)] = unquote(strings.TrimSpace(value))
		}
	}
	return values
}

// unquote removes a pair of quotes.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// readSELinux reports whether the system enforces or watches labels.
func readSELinux(t *tree.Tree) bool {
	mode := readVariables(t, "/etc/selinux/config")["SELINUX"]
	return mode == "enforcing" || mode == "permissive"
}

// readLoaders says which boot loaders have a configuration.
func readLoaders(t *tree.Tree) []string {
	var found []string
	for _, l := range []struct{ name, dir, pattern string }{
		{"grub", "/boot/grub", "grub.cfg"}, {"grub", "/boot/grub2", "grub.cfg"},
		{"grub-legacy", "/boot/grub", "menu.lst"}, {"grub-legacy", "/boot/grub", "grub.conf"},
		{"bls", "/boot/loader/entries", "*.conf"},
		{"extlinux", "/boot/extlinux", "extlinux.conf"}, {"extlinux", "/boot/syslinux", "syslinux.cfg"},
	} {
		if len(t.Glob(l.dir, l.pattern)) > 0 && !slices.Contains(found, l.name) {
			found = append(found, l.name)
		}
	}
	return found
}

// base is the last part of a path.
func base(name string) string { return path.Base(name) }
