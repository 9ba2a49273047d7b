package inventory

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/openmigrate/openmigrate/wire"
)

func (c *collector) host() {
	inv := c.inv
	inv.Hostname = clip(c.read("hostname", "/proc/sys/kernel/hostname"))
	inv.BootID = clip(c.read("boot_id", "/proc/sys/kernel/random/boot_id"))
	inv.MachineID = hashedMachineID(c.Root)
	inv.OS = c.osRelease()
	inv.Kernel = wire.Kernel{
		Release: clip(c.read("kernel", "/proc/sys/kernel/osrelease")),
		Arch:    arch(attr(c.path("/proc/sys/kernel"), "arch")),
		Cmdline: harmless(c.read("kernel", "/proc/cmdline")),
	}
	inv.CPU = c.cpu()
	inv.MemoryBytes = c.memory()
	inv.Firmware = c.firmware()
}

// arch turns the kernel's name, which it tells since 6.1, into Go's.
func arch(machine string) string {
	switch machine {
	case "":
		return runtime.GOARCH
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return machine
}

func (c *collector) osRelease() wire.OSRelease {
	text := c.read("os", "/etc/os-release")
	if text == "" {
		text = c.read("os", "/usr/lib/os-release")
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && len(values) < 64 {
			values[key] = clip(shellValue(value))
		}
	}
	return wire.OSRelease{ID: values["ID"], Version: values["VERSION_ID"], Like: values["ID_LIKE"], PrettyName: values["PRETTY_NAME"]}
}

// shellValue takes the quotes and backslashes off a value of os-release.
func shellValue(s string) string {
	if n := len(s); n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n-1] == s[0] {
		s = s[1 : n-1]
	}
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\$`, `$`, "\\`", "`").Replace(s)
}

// harmless keeps the words of a kernel command line that say how the host boots; others may hold passwords.
func harmless(cmdline string) string {
	var keep []string
	for _, word := range strings.Fields(cmdline) {
		key, _, _ := strings.Cut(word, "=")
		switch key {
		case "root", "rootfstype", "rootflags", "resume", "console", "ro", "rw", "net.ifnames", "biosdevname":
			keep = append(keep, word)
		}
	}
	return clip(strings.Join(keep, " "))
}

func (c *collector) cpu() wire.CPU {
	var cpu wire.CPU
	for line := range strings.Lines(c.read("cpu", "/proc/cpuinfo")) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "processor":
			cpu.Count++
		case "model name":
			if cpu.Model == "" {
				cpu.Model = clip(strings.TrimSpace(value))
			}
		}
	}
	return cpu
}

func (c *collector) memory() int64 {
	s := bufio.NewScanner(strings.NewReader(c.read("memory", "/proc/meminfo")))
	for s.Scan() {
		if f := strings.Fields(s.Text()); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(f[1], 10, 52)
			c.note("memory", err)
			return kib << 10
		}
	}
	return 0
}

// firmware reads the SecureBoot variable of the UEFI Specification: four bytes of attributes, then one that is 1 if it is on.
func (c *collector) firmware() wire.Firmware {
	if _, err := os.Stat(c.path("/sys/firmware/efi")); err != nil {
		return wire.Firmware{Type: "bios"}
	}
	fw := wire.Firmware{Type: "uefi"}
	b, err := readFile(c.path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"))
	c.note("firmware", err)
	if err == nil && len(b) >= 5 {
		on := b[4] == 1
		fw.SecureBoot = &on
	}
	return fw
}
