package convert

import (
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// debianInitramfs is initramfs-tools(7) of Debian and Ubuntu.
type debianInitramfs struct{}

func (debianInitramfs) name() string { return "initramfs-tools" }

func (debianInitramfs) installed(t *tree.Tree) bool { return t.Any("/usr/sbin/mkinitramfs") != "" }

func (debianInitramfs) file(_ *tree.Tree, release, _ string) string {
	return "/boot/initrd.img-" + release
}

func (debianInitramfs) configure(e *editor, modules []string) error {
	// The last file of the folder wins.
	text := "# Written by OpenMigrate: the machine runs on other hardware than the one that it was installed on.\nMODULES=most\n"
	if err := e.put("/etc/initramfs-tools/conf.d/zz-openmigrate", []byte(text), 0o644, whyModules); err != nil {
		return err
	}
	why := "the initramfs does not wait for a swap that is not there"
	if err := e.edit("/etc/initramfs-tools/conf.d/resume", why, e.resume); err != nil {
		return err
	}
	old, err := e.ReadFile("/etc/initramfs-tools/modules")
	if err != nil {
		old = nil
	}
	return e.put("/etc/initramfs-tools/modules", addLines(old, modules), 0o644, whyModules)
}

func (debianInitramfs) command(_ *tree.Tree, release, out string) []string {
	return []string{"/usr/sbin/mkinitramfs", "-o", out, release}
}

// adapt takes care of the swap and the root that the tool found when it ran at home. Drivers are found by udev.
func (debianInitramfs) adapt(e *editor, name string, content []byte) ([]byte, error) {
	if !strings.HasPrefix(name, "conf/conf.d/") {
		return content, nil
	}
	return lines(e.resume(content), func(line string) string {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "ROOT=")
		if !ok || value == "" {
			return line
		}
		return "ROOT=" + strings.TrimPrefix(e.rootArg("root="+value, value), "root=")
	}), nil
}

// addLines adds the lines that are missing.
func addLines(old []byte, add []string) []byte {
	have := map[string]bool{}
	for line := range strings.Lines(string(old)) {
		have[strings.TrimSpace(line)] = true
	}
	out := slices.Clone(old)
	for _, line := range add {
		if have[line] {
			continue
		}
		if len(out) > 0 && out[len(out)-1] != '\n' {
			out = append(out, '\n')
		}
		out = append(out, line+"\n"...)
	}
	return out
}

// resume keeps the initramfs from waiting for a swap that is not there.
func (e *editor) resume(b []byte) []byte {
	return lines(b, func(line string) string {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "RESUME=")
		if !ok || value == "none" || value == "auto" || value == "" {
			return line
		}
		arg := e.resumeArg("resume="+value, value)
		switch arg {
		case "":
			return "RESUME=none"
		case "resume=" + value:
			return line
		}
		return "RESUME=" + strings.TrimPrefix(arg, "resume=")
	})
}
