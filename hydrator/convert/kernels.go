package convert

import (
	"path"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// maxKernels bounds the kernels that are converted: each costs a run of the initramfs tool.
const maxKernels = 12

// readKernels lists the kernels that have both modules and an image; leftovers of removed ones have only one.
func readKernels(t *tree.Tree, tool string) []Kernel {
	var list []Kernel
	for _, dir := range t.Glob("/lib/modules", "*") {
		release := base(dir)
		if !t.Exists(path.Join(dir, "modules.dep")) || !validRelease(release) || len(list) == maxKernels {
			continue
		}
		pkgbase := ""
		if b, err := t.ReadFile(path.Join(dir, "pkgbase")); err == nil && validRelease(strings.TrimSpace(string(b))) {
			pkgbase = strings.TrimSpace(string(b)) // Arch names files by the package
		}
		k := Kernel{Release: release, Image: t.Any("/boot/vmlinuz-"+release, "/boot/vmlinux-"+release, "/boot/Image-"+release,
			"/boot/image-"+release, "/boot/kernel-"+release)}
		if k.Image == "" && pkgbase != "" {
			k.Image = t.Any("/boot/vmlinuz-" + pkgbase)
		}
		if k.Image == "" {
			continue
		}
		for _, i := range initramfsTools {
			if i.name() == tool {
				k.Initramfs = i.file(t, release, pkgbase)
			}
		}
		list = append(list, k)
	}
	return list
}

// validRelease accepts what is safe as a part of a path and as an argument.
func validRelease(s string) bool {
	if s == "" || s[0] == '.' || s[0] == '-' || len(s) > 128 {
		return false
	}
	for _, c := range s {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._+-~", c)
		if !ok {
			return false
		}
	}
	return true
}
