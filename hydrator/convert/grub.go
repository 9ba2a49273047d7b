package convert

import (
	"regexp"
	"strings"
)

// GRUB's configuration is edited in place. To make a new one would take grub-mkconfig, which writes the names of the disks that it
// sees, and those are ours.

// A line that starts a kernel: the command, its file, and the arguments. Word boundaries matter to GRUB, spaces do not.
var (
	grubKernel = regexp.MustCompile(`^(\s*(?:linux|linux16|linuxefi|kernel)\s+(?:\([^)]*\))?[^\s]+\s+)(\S.*)$`)
	grubSet    = regexp.MustCompile(`^(\s*set\s+(?:default_)?kernelopts=)(["'])(.*)(["'])\s*$`)
	appendLine = regexp.MustCompile(`^(\s*(?i:append)\s+)(\S.*)$`) // syslinux
	optionLine = regexp.MustCompile(`^(options\s+)(\S.*)$`)        // Boot Loader Specification
	cmdlineVar = regexp.MustCompile(`^(\s*(?:export\s+)?GRUB_CMDLINE_LINUX(?:_DEFAULT)?=)(["'])(.*)(["'])(\s*(?:#.*)?)$`)
	noUUID     = regexp.MustCompile(`^\s*GRUB_DISABLE_(?:LINUX_UUID|UUID|LINUX_PARTUUID)=["']?true`)
)

const (
	whyGrub    = "the kernel's arguments name disks by UUID and use the platform's serial console"
	whyDefault = "a boot menu that is made later has the same arguments"
)

// lines applies fn to each line, without its end.
func lines(b []byte, fn func(string) string) []byte {
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		text, end := line, ""
		if strings.HasSuffix(text, "\n") {
			text, end = text[:len(text)-1], "\n"
		}
		if strings.HasSuffix(text, "\r") {
			text, end = text[:len(text)-1], "\r"+end
		}
		out.WriteString(fn(text))
		out.WriteString(end)
	}
	return []byte(out.String())
}

// grubCfg changes grub.cfg, or the menu.lst of GRUB before 2.
func (e *editor) grubCfg(b []byte) []byte {
	return lines(b, func(line string) string {
		if m := grubKernel.FindStringSubmatch(line); m != nil && strings.Contains(m[2], "root=") {
			return m[1] + e.cmdline(m[2], true)
		}
		if m := grubSet.FindStringSubmatch(line); m != nil {
			return m[1] + m[2] + e.cmdline(m[3], true) + m[4]
		}
		return line
	})
}

// grubDefaults changes /etc/default/grub, from which grub.cfg is made.
func (e *editor) grubDefaults(b []byte) []byte {
	first := true
	return lines(b, func(line string) string {
		if m := cmdlineVar.FindStringSubmatch(line); m != nil && !strings.Contains(m[3], "$") {
			// The consoles go to the variable that every entry has.
			complete := first && !strings.Contains(m[1], "_DEFAULT")
			if complete {
				first = false
			}
			return m[1] + m[2] + e.cmdline(m[3], complete) + m[4] + m[5]
		}
		if noUUID.MatchString(line) {
			return "#" + line
		}
		return line
	})
}

// oneCmdline changes a file that is nothing but arguments.
func (e *editor) oneCmdline(b []byte) []byte {
	return lines(b, func(line string) string {
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			return line
		}
		return e.cmdline(line, true)
	})
}

// matching changes the arguments on lines of one kind.
func (e *editor) matching(b []byte, kind *regexp.Regexp) []byte {
	return lines(b, func(line string) string {
		m := kind.FindStringSubmatch(line)
		if m == nil || strings.Contains(m[2], "$kernelopts") {
			return line
		}
		return m[1] + e.cmdline(m[2], true)
	})
}

// convertLoader changes every boot configuration that there is: which of them the machine uses depends on its firmware.
func convertLoader(e *editor) error {
	type file struct {
		name, why string
		fn        func([]byte) []byte
	}
	var files []file
	for _, name := range []string{"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/grub/menu.lst", "/boot/grub/grub.conf", "/boot/grub/custom.cfg",
		"/boot/grub2/custom.cfg", "/etc/grub.d/40_custom"} {
		files = append(files, file{name, whyGrub, e.grubCfg})
	}
	for _, name := range []string{"/boot/grub/grubenv", "/boot/grub2/grubenv"} {
		files = append(files, file{name, whyGrub, e.grubEnv})
	}
	for _, name := range e.Glob("/boot/loader/entries", "*.conf") {
		files = append(files, file{name, whyGrub, func(b []byte) []byte { return e.matching(b, optionLine) }})
	}
	for _, name := range []string{"/boot/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg"} {
		files = append(files, file{name, whyGrub, func(b []byte) []byte { return e.matching(b, appendLine) }})
	}
	files = append(files, file{"/etc/default/grub", whyDefault, e.grubDefaults}, file{"/etc/kernel/cmdline", whyDefault, e.oneCmdline})
	for _, name := range e.Glob("/etc/default/grub.d", "*.cfg") {
		files = append(files, file{name, whyDefault, e.grubDefaults})
	}
	for _, name := range []string{"/boot/grub/device.map", "/boot/grub2/device.map"} {
		if err := e.remove(name, "GRUB's tools find the disks by looking"); err != nil {
			return err
		}
	}
	done := map[string]bool{}
	for _, f := range files {
		real, err := e.Resolve(f.name)
		if err != nil || done[real] {
			continue
		}
		done[real] = true
		if info, err := e.Lstat(real); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if err := e.edit("/"+real, f.why, f.fn); err != nil {
			return err
		}
	}
	return nil
}
