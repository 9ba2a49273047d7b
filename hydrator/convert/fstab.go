package convert

import (
	"strings"
)

// fstab is fstab(5), line by line: what is not changed stays as it is, comments and spacing too.
type fstab struct{ lines []fstabLine }

type fstabLine struct {
	text  string // with its end of line
	entry *fstabEntry
}

// fstabEntry is one mount. Fields are as in the file, with \040 for a space.
type fstabEntry struct {
	fields  []string
	changed bool
}

const maxFstab = 1000 // entries

func parseFstab(b []byte) *fstab {
	f := &fstab{}
	n := 0
	for line := range strings.Lines(string(b)) {
		l := fstabLine{text: line}
		if fields := strings.Fields(line); len(fields) >= 3 && !strings.HasPrefix(fields[0], "#") && n < maxFstab {
			n++
			l.entry = &fstabEntry{fields: fields}
		}
		f.lines = append(f.lines, l)
	}
	return f
}

func (f *fstab) entries() []*fstabEntry {
	var list []*fstabEntry
	for _, l := range f.lines {
		if l.entry != nil {
			list = append(list, l.entry)
		}
	}
	return list
}

// bytes is the file with what was changed.
func (f *fstab) bytes() []byte {
	var b strings.Builder
	for _, l := range f.lines {
		if l.entry == nil || !l.entry.changed {
			b.WriteString(l.text)
			continue
		}
		b.WriteString(strings.Join(l.entry.fields, "\t"))
		b.WriteString("\n")
	}
	return []byte(b.String())
}

func (e *fstabEntry) source() string { return unquote(e.fields[0]) }
func (e *fstabEntry) point() string  { return e.fields[1] }
func (e *fstabEntry) kind() string   { return e.fields[2] }

func (e *fstabEntry) options() []string {
	if len(e.fields) < 4 {
		return nil
	}
	return strings.Split(e.fields[3], ",")
}

func (e *fstabEntry) setSource(s string) {
	e.fields[0], e.changed = s, true
}

// addOption adds an option that is not there yet, and reports whether it did.
func (e *fstabEntry) addOption(o string) bool {
	for _, have := range e.options() {
		if have == o {
			return false
		}
	}
	if len(e.fields) < 4 {
		e.fields = append(e.fields, "defaults")
	}
	e.fields[3] += "," + o
	e.changed = true
	return true
}

// remote reports whether an entry is mounted over a network or is no file system on a disk at all.
func (e *fstabEntry) remote() bool {
	switch e.kind() {
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.sshfs", "9p", "virtiofs":
		return true
	}
	return false
}

// skipped reports whether the boot leaves an entry alone, as that of a CD.
func (e *fstabEntry) skipped() bool {
	for _, o := range e.options() {
		if o == "noauto" {
			return e.point() != "/"
		}
	}
	return false
}

// virtual reports whether an entry needs no device.
func (e *fstabEntry) virtual() bool {
	switch e.kind() {
	case "proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "efivarfs", "configfs",
		"overlay", "none", "hugetlbfs", "mqueue", "binfmt_misc", "fuse", "squashfs", "iso9660", "udf":
		return true
	}
	for _, o := range e.options() {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	// A file of another file system: a swap file or an image.
	return strings.HasPrefix(e.source(), "/") && !strings.HasPrefix(e.source(), "/dev/")
}
