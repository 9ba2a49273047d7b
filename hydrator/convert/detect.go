package convert

import (
	"context"
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

func (s *System) note(format string, args ...any) {
	if len(s.Notes) < 64 {
		s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
	}
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
