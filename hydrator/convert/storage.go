package convert

import (
	"strings"
)

// convertFstab names disks by what stays the same. What is on none of the disks must not stop the machine from booting.
func convertFstab(e *editor) error {
	b, err := e.ReadFile("/etc/fstab")
	if err != nil {
		return err
	}
	f := parseFstab(b)
	type place struct {
		volume int
		how    how
	}
	places := map[*fstabEntry]place{} // before the first name changes
	for _, entry := range f.entries() {
		i, how := e.system.findEntry(f, entry)
		places[entry] = place{i, how}
	}
	mapped := e.mapped()
	for _, entry := range f.entries() {
		if entry.virtual() || entry.skipped() || mapped[entry.source()] {
			continue
		}
		if entry.remote() {
			e.warn("/etc/fstab mounts %s on %s over the network: the target must reach it", entry.source(), entry.point())
			continue
		}
		i, how := places[entry].volume, places[entry].how
		switch {
		case i < 0:
			entry.addOption("nofail")
			e.warn("/etc/fstab: %s (%s) is on none of the disks: the machine starts without it", entry.source(), entry.point())
		case how != byID:
			if how == byGuess {
				e.warn("/etc/fstab: %s on %s was taken to be %v: check it", entry.source(), entry.point(), e.system.Volumes[i])
			}
			if name := e.system.stable(i); name != "" {
				entry.setSource(name)
			}
		}
	}
	return e.put("/etc/fstab", f.bytes(), 0o644, "disks are named by UUID, and those that are missing do not stop the boot")
}

// mapped are the names below /dev of what lies on encrypted volumes that are on the disks.
func (e *editor) mapped() map[string]bool {
	names := map[string]bool{}
	b, err := e.ReadFile("/etc/crypttab")
	if err != nil {
		return names
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") {
			continue
		}
		file := strings.HasPrefix(f[1], "/") && !strings.HasPrefix(f[1], "/dev/")
		if i, _ := e.system.find(f[1], ""); i >= 0 || file {
			names["/dev/mapper/"+f[0]] = true
		}
	}
	return names
}

// findEntry returns the volume that an entry of fstab names. The root is what was found to be it, whatever fstab calls it, and a
// guess does not take a volume that another entry names.
func (s *System) findEntry(f *fstab, entry *fstabEntry) (int, how) {
	i, how := s.find(entry.source(), entry.kind())
	if how == byID {
		return i, how
	}
	used := map[int]bool{s.Root: true}
	for _, other := range f.entries() {
		if other.point() == "/" && other.source() == entry.source() {
			return s.Root, byName
		}
		if j, how := s.find(other.source(), other.kind()); j >= 0 && how != byGuess {
			used[j] = true
		}
	}
	if how == byGuess && used[i] {
		return -1, byNothing
	}
	return i, how
}

// convertStorage takes out what binds the layers below file systems to the old disks.
func convertStorage(e *editor) error {
	for _, m := range e.system.Mounts {
		if v := e.system.Volumes[m.Volume]; v.Snapshots {
			e.warn("%v has snapshots of LVM's: they are of no use on the target, remove them there", v)
		}
	}
	if err := convertCrypttab(e); err != nil {
		return err
	}
	// Red Hat's LVM from 9 on uses only devices that it knows by serial number or WWN.
	if err := e.remove("/etc/lvm/devices/system.devices", "LVM finds its disks by looking, whatever their serial numbers are"); err != nil {
		return err
	}
	if err := e.edit("/etc/lvm/lvm.conf", "LVM does not leave out disks by their old names", lvmFilter); err != nil {
		return err
	}
	for _, name := range []string{"/etc/multipath/wwids", "/etc/multipath/bindings"} {
		if err := e.remove(name, "multipath does not wait for the old disks"); err != nil {
			return err
		}
	}
	return convertBlacklist(e)
}

// lvmFilter comments out filters that name devices.
func lvmFilter(b []byte) []byte {
	return lines(b, func(line string) string {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		switch strings.TrimSpace(key) {
		case "filter", "global_filter":
			if ok && strings.Contains(value, "/dev/") && strings.Contains(value, "]") {
				return "#" + line
			}
		}
		return line
	})
}

// convertCrypttab comments out what is encrypted on disks that are not there.
func convertCrypttab(e *editor) error {
	return e.edit("/etc/crypttab", "encrypted volumes are named by UUID, and the boot waits for none that is missing", func(b []byte) []byte {
		return lines(b, func(line string) string {
			fields := strings.Fields(line)
			if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
				return line
			}
			if strings.HasPrefix(fields[1], "/") && !strings.HasPrefix(fields[1], "/dev/") {
				return line // a file
			}
			i, how := e.system.find(fields[1], "")
			switch {
			case i < 0:
				e.warn("/etc/crypttab: %s is on none of the disks and was taken out", fields[1])
				return "#" + line
			case how != byID:
				if name := e.system.stable(i); name != "" {
					return strings.Replace(line, fields[1], name, 1)
				}
			}
			return line
		})
	})
}

// convertBlacklist lets the kernel load the target's drivers again.
func convertBlacklist(e *editor) error {
	needed := map[string]bool{}
	p := platforms[e.target.Platform]
	for _, d := range append(p.disks[:len(p.disks):len(p.disks)], p.nics...) {
		for _, m := range d.modules {
			needed[m] = true
		}
	}
	for _, name := range e.Glob("/etc/modprobe.d", "*.conf") {
		err := e.edit(name, "the kernel may load the target's drivers", func(b []byte) []byte {
			return lines(b, func(line string) string {
				f := strings.Fields(line)
				if len(f) >= 2 && (f[0] == "blacklist" || f[0] == "install") && needed[strings.ReplaceAll(f[1], "-", "_")] {
					return "#" + line
				}
				return line
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// convertSELinux has all files labelled at the next boot: what was written here has no labels.
func convertSELinux(e *editor) error {
	if !e.system.SELinux || len(e.report.Changes) == 0 {
		return nil
	}
	return e.put("/.autorelabel", nil, 0o644, "SELinux labels the changed files at the first boot, which then starts the machine once more")
}
