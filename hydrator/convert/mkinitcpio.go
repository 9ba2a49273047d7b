package convert

import (
	"regexp"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// mkinitcpio is mkinitcpio(8) of Arch and its relatives.
type mkinitcpio struct{}

func (mkinitcpio) name() string { return "mkinitcpio" }

func (mkinitcpio) installed(t *tree.Tree) bool { return t.Any("/usr/bin/mkinitcpio") != "" }

func (mkinitcpio) file(_ *tree.Tree, release, pkgbase string) string {
	if pkgbase == "" {
		pkgbase = release
	}
	return "/boot/initramfs-" + pkgbase + ".img"
}

// arrayLine is an array of the configuration on one line, as every distribution has it.
var arrayLine = regexp.MustCompile(`^(MODULES|HOOKS)=\(([^)]*)\)(.*)$`)

func (mkinitcpio) configure(e *editor, modules []string) error {
	return e.edit("/etc/mkinitcpio.conf", whyModules, func(b []byte) []byte {
		return lines(b, func(line string) string {
			m := arrayLine.FindStringSubmatch(line)
			if m == nil {
				return line
			}
			list := strings.Fields(m[2])
			was := slices.Clone(list)
			if m[1] == "MODULES" {
				for _, name := range modules {
					if !slices.Contains(list, name) {
						list = append(list, name)
					}
				}
			} else {
				// It leaves out what the machine that builds does not have.
				list = slices.DeleteFunc(list, func(s string) bool { return s == "autodetect" })
			}
			if slices.Equal(list, was) {
				return line
			}
			return m[1] + "=(" + strings.Join(list, " ") + ")" + m[3]
		})
	})
}

func (mkinitcpio) command(_ *tree.Tree, release, out string) []string {
	return []string{"/usr/bin/mkinitcpio", "-k", release, "-g", out, "-S", "autodetect"}
}

// adapt has nothing to do: udev loads what the indexes of modules name, and the rest is in the kernel's arguments.
func (mkinitcpio) adapt(_ *editor, _ string, content []byte) ([]byte, error) {
	return content, nil
}
