package convert

import (
	"regexp"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// dracut is dracut(8) of Red Hat, its relatives and SUSE.
type dracut struct{}

func (dracut) name() string { return "dracut" }

func (dracut) program(t *tree.Tree) string {
	return t.Any("/usr/bin/dracut", "/sbin/dracut", "/usr/sbin/dracut")
}

func (d dracut) installed(t *tree.Tree) bool { return d.program(t) != "" }

// file follows what is there: the distributions name it differently.
func (dracut) file(t *tree.Tree, release, _ string) string {
	names := []string{"/boot/initramfs-" + release + ".img", "/boot/initrd-" + release, "/boot/initrd.img-" + release}
	if name := t.Any(names...); name != "" {
		return name
	}
	return names[0]
}

func (dracut) configure(e *editor, modules []string) error {
	text := "# Written by OpenMigrate: the machine runs on other hardware than the one that it was installed on.\n" +
		"hostonly=\"no\"\nhostonly_cmdline=\"no\"\nadd_drivers+=\" " + strings.Join(modules, " ") + " \"\n"
	return e.put("/etc/dracut.conf.d/99-openmigrate.conf", []byte(text), 0o644, whyModules)
}

func (d dracut) command(t *tree.Tree, release, out string) []string {
	// That nothing of this machine gets in is in the configuration, which every version reads.
	return []string{d.program(t), "--force", out, release}
}

// waits finds the disks that an initramfs made for one machine does not start without (wait_for_dev in dracut-functions.sh).
var waits = regexp.MustCompile(`-e "?(/dev/[^"\s]+)`)

// adapt puts the kernel arguments right that are in the initramfs itself. One that waits for a disk by a name that the target does not
// give it has to be built.
func (dracut) adapt(e *editor, name string, content []byte) ([]byte, error) {
	switch {
	case strings.HasPrefix(name, "etc/cmdline.d/"):
		return lines(content, func(line string) string { return e.cmdline(line, false) }), nil
	case strings.Contains(name, "/initqueue/finished/"):
		for _, m := range waits.FindAllSubmatch(content, -1) {
			if _, how := e.system.find(string(m[1]), ""); how != byID {
				return nil, mustBuild("it waits for %s", m[1])
			}
		}
	}
	return content, nil
}
