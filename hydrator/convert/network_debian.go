package convert

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// ifupdown is interfaces(5) of Debian.
type ifupdown struct{}

func (ifupdown) name() string { return "ifupdown" }

func (ifupdown) files(t *tree.Tree) []string {
	names := t.Glob("/etc/network/interfaces.d", "*")
	if t.Exists("/etc/network/interfaces") {
		names = append([]string{"/etc/network/interfaces"}, names...)
	}
	return names
}

var ifaceLine = regexp.MustCompile(`(?m)^\s*iface\s+(\S+)\s+inet6?\s`)

func (i ifupdown) rank(t *tree.Tree) int {
	if t.Any("/sbin/ifup", "/usr/sbin/ifup") == "" || !t.Exists("/etc/network/interfaces") {
		return 0
	}
	for _, name := range i.files(t) {
		b, err := t.ReadFile(name)
		if err != nil {
			continue
		}
		for _, m := range ifaceLine.FindAllStringSubmatch(string(b), -1) {
			if m[1] != "lo" {
				return 3
			}
		}
	}
	return 1
}

func (i ifupdown) configure(e *editor, nics []staticNIC) error {
	for _, name := range i.files(e.Tree)[1:] {
		b, err := e.ReadFile(name)
		if err != nil || !ifaceLine.Match(b) {
			continue
		}
		if err := e.removeNetwork(name); err != nil {
			return err
		}
	}
	if e.Any("/sbin/dhclient", "/usr/sbin/dhclient", "/sbin/udhcpc", "/usr/sbin/udhcpc", "/sbin/dhcpcd", "/usr/sbin/dhcpcd", "/usr/bin/udhcpc") == "" {
		e.warn("the machine has no DHCP client for ifupdown: install isc-dhcp-client on the source, or give the target's cards fixed addresses")
	}
	if b, err := e.ReadFile("/etc/network/interfaces"); err == nil && !strings.HasPrefix(string(b), ours) {
		e.lost("/etc/network/interfaces", b)
	}
	text := ours + "source /etc/network/interfaces.d/*\n\nauto lo\niface lo inet loopback\n"
	if oldIfupdown(e.Tree) {
		text += "\nauto eth0\niface eth0 inet dhcp\n"
		e.args = append(e.args, "net.ifnames=0", "biosdevname=0")
	} else {
		// A pattern brings up each card under a logical name (interfaces(5), "INTERFACE PATTERNS").
		text += "\nauto /en*=ether /eth*=ether\niface ether inet dhcp\n"
	}
	for _, n := range nics {
		text += "\nauto " + n.name + "\n"
		for j, a := range n.Addresses {
			family := map[bool]string{true: "inet", false: "inet6"}[a.Addr().Unmap().Is4()]
			text += fmt.Sprintf("iface %s %s static\n\taddress %s\n", n.name, family, a)
			if n.Gateway.IsValid() && n.Gateway.Unmap().Is4() == a.Addr().Unmap().Is4() && j == firstOf(n.NIC) {
				text += fmt.Sprintf("\tgateway %s\n", n.Gateway)
			}
			if len(n.DNS) > 0 && j == 0 {
				text += "\tdns-nameservers " + list(n.DNS, " ") + "\n"
			}
		}
	}
	return e.put("/etc/network/interfaces", []byte(text), 0o644, whyNetwork)
}

// firstOf is the first address of the gateway's family.
func firstOf(n NIC) int {
	for i, a := range n.Addresses {
		if a.Addr().Unmap().Is4() == n.Gateway.Unmap().Is4() {
			return i
		}
	}
	return -1
}

// oldIfupdown reports whether ifupdown knows no patterns: that is, before 0.8.17, of 2016.
func oldIfupdown(t *tree.Tree) bool {
	f, err := t.Open("/var/lib/dpkg/status")
	if err != nil {
		return false
	}
	defer f.Close()
	version := packageVersion(f, "ifupdown")
	var major, minor, patch int
	n, _ := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch)
	return n >= 2 && (major == 0 && minor < 8 || major == 0 && minor == 8 && patch < 17)
}

// netplan is netplan(5) of Ubuntu.
type netplan struct{}

func (netplan) name() string { return "netplan" }

func (netplan) files(t *tree.Tree) []string { return t.Glob("/etc/netplan", "*.yaml") }

func (n netplan) rank(t *tree.Tree) int {
	if t.Any("/usr/sbin/netplan", "/usr/libexec/netplan/generate", "/lib/netplan/generate", "/usr/lib/netplan/generate") == "" {
		return 0
	}
	if len(n.files(t)) > 0 {
		return 3
	}
	return 1
}

const netplanFile = "/etc/netplan/60-openmigrate.yaml"

var renderer = regexp.MustCompile(`(?m)^\s*renderer:\s*["']?(networkd|NetworkManager)\b`)

func (n netplan) configure(e *editor, nics []staticNIC) error {
	backend := "networkd"
	for _, name := range n.files(e.Tree) {
		if b, err := e.ReadFile(name); err == nil {
			if m := renderer.FindSubmatch(b); m != nil {
				backend = string(m[1])
			}
		}
		if name == netplanFile {
			continue
		}
		if err := e.removeNetwork(name); err != nil {
			return err
		}
	}
	text := ours + "network:\n  version: 2\n  renderer: " + backend + "\n  ethernets:\n"
	for _, prefix := range []string{"en", "eth"} {
		// The target may have fewer cards than the old machine: nobody waits for them.
		text += fmt.Sprintf("    openmigrate-%s:\n      match: {name: \"%s*\"}\n      dhcp4: true\n      optional: true\n", prefix, prefix)
	}
	for _, nic := range nics {
		text += fmt.Sprintf("    %s:\n      match: {name: \"%s\"}\n      dhcp4: false\n      addresses: [%s]\n", nic.name, nic.name, quotedList(nic.Addresses))
		if nic.Gateway.IsValid() {
			to := map[bool]string{true: "0.0.0.0/0", false: "::/0"}[nic.Gateway.Unmap().Is4()]
			text += fmt.Sprintf("      routes: [{to: \"%s\", via: \"%s\"}]\n", to, nic.Gateway)
		}
		if len(nic.DNS) > 0 {
			text += fmt.Sprintf("      nameservers: {addresses: [%s]}\n", quotedList(nic.DNS))
		}
	}
	return e.put(netplanFile, []byte(text), 0o600, whyNetwork)
}

func quotedList[T fmt.Stringer](values []T) string {
	if len(values) == 0 {
		return ""
	}
	return `"` + list(values, `", "`) + `"`
}

// networkd is systemd.network(5).
type networkd struct{}

func (networkd) name() string { return "networkd" }

func (networkd) files(t *tree.Tree) []string { return t.Glob("/etc/systemd/network", "*.network") }

func (n networkd) rank(t *tree.Tree) int {
	switch {
	case t.Any("/lib/systemd/systemd-networkd", "/usr/lib/systemd/systemd-networkd") == "":
		return 0
	case !enabled(t, "systemd-networkd.service"):
		return 1
	case len(n.files(t)) > 0:
		return 3
	}
	return 2
}

const networkdFile = "/etc/systemd/network/05-openmigrate.network"

func (n networkd) configure(e *editor, nics []staticNIC) error {
	for _, name := range n.files(e.Tree) {
		b, err := e.ReadFile(name)
		if err != nil || strings.Contains(base(name), "-openmigrate") || !forOldCard(b) {
			continue
		}
		if err := e.removeNetwork(name); err != nil {
			return err
		}
	}
	for _, nic := range nics {
		text := ours + "[Match]\nName=" + nic.name + "\n\n[Network]\n"
		for _, a := range nic.Addresses {
			text += "Address=" + a.String() + "\n"
		}
		if nic.Gateway.IsValid() {
			text += "Gateway=" + nic.Gateway.String() + "\n"
		}
		for _, d := range nic.DNS {
			text += "DNS=" + d.String() + "\n"
		}
		if err := e.put(path.Join("/etc/systemd/network", "04-openmigrate-"+nic.name+".network"), []byte(text), 0o644, whyNetwork); err != nil {
			return err
		}
	}
	text := ours + "[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n\n[DHCP]\nUseDomains=yes\n"
	return e.put(networkdFile, []byte(text), 0o644, whyNetwork)
}

// forOldCard reports whether a .network file is for one physical card: by its address, by where it is, or by name.
func forOldCard(b []byte) bool {
	if pinned(b, "MACAddress", "PermanentMACAddress", "Path", "Driver") {
		return true
	}
	section := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		}
		if value, ok := strings.CutPrefix(line, "Name="); ok && section == "[Match]" {
			for _, name := range strings.Fields(value) {
				if physical(name) {
					return true
				}
			}
		}
	}
	return false
}
