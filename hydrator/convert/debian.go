package convert

import (
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
	if err := convertResume(e); err != nil {
		return err
	}
	old, err := e.ReadFile("/etc/initramfs-tools/modules")
	if err != nil {
		old = nil
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(old)) {
		have[strings.TrimSpace(line)] = true
	}
	add := ""
	for _, m := range modules {
		if !have[m] {
			add += m + "\n"
		}
	}
	if add == "" {
		return nil
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		add = "\n" + add
	}
	return e.put("/etc/initramfs-tools/modules", append(old, add...), 0o644, whyModules)
}

func (debianInitramfs) command(_ *tree.Tree, release, out string) []string {
	return []string{"/usr/sbin/mkinitramfs", "-o", out, release}
}

// convertResume keeps the initramfs from waiting for a swap that is not there.
func convertResume(e *editor) error {
	const name = "/etc/initramfs-tools/conf.d/resume"
	return e.edit(name, "the initramfs does not wait for a swap that is not there", func(b []byte) []byte {
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
	})
}
