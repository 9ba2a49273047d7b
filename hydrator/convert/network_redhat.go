package convert

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// networkManager is NetworkManager with its own files, nm-settings-keyfile(5).
type networkManager struct{}

func (networkManager) name() string { return "networkmanager" }

const nmDir = "/etc/NetworkManager/system-connections"

func (networkManager) rank(t *tree.Tree) int {
	switch {
	case t.Any("/usr/sbin/NetworkManager") == "":
		return 0
	case !enabled(t, "NetworkManager.service"):
		return 1
	case len(t.Glob(nmDir, "*")) > 0:
		return 3
	}
	return 2
}

func (networkManager) configure(e *editor, nics []staticNIC) error {
	for _, name := range e.Glob(nmDir, "*") {
		b, err := e.ReadFile(name)
		if err != nil || strings.HasPrefix(base(name), "openmigrate") || !ethernet(b) {
			continue
		}
		if err := e.removeNetwork(name); err != nil {
			return err
		}
	}
	// Without a name or an address of a card a connection is for every one; multi-connect lets several have it at once.
	text := ours + `[connection]
id=openmigrate
uuid=6f70656e-6d69-4772-8174-650000000000
type=ethernet
autoconnect=true
multi-connect=3

[ipv4]
method=auto

[ipv6]
method=auto
`
	if err := e.put(path.Join(nmDir, "openmigrate.nmconnection"), []byte(text), 0o600, whyNetwork); err != nil {
		return err
	}
	for i, nic := range nics {
		text := ours + fmt.Sprintf("[connection]\nid=openmigrate-%s\nuuid=6f70656e-6d69-4772-8174-65000000%04x\ntype=ethernet\nautoconnect-priority=100\n"+
			"\n[ethernet]\nmac-address=%s\n", nic.name, i+1, strings.ToUpper(nic.MAC))
		for _, v4 := range []bool{true, false} {
			addresses := byFamily(nic.Addresses, v4)
			text += map[bool]string{true: "\n[ipv4]\n", false: "\n[ipv6]\n"}[v4]
			if len(addresses) == 0 {
				text += map[bool]string{true: "method=disabled\n", false: "method=auto\n"}[v4]
				continue
			}
			text += "method=manual\n"
			for j, a := range addresses {
				text += fmt.Sprintf("address%d=%s", j+1, a)
				if j == 0 && nic.Gateway.IsValid() && nic.Gateway.Unmap().Is4() == v4 {
					text += "," + nic.Gateway.String()
				}
				text += "\n"
			}
			dns := ""
			for _, d := range nic.DNS {
				if d.Unmap().Is4() == v4 {
					dns += d.String() + ";"
				}
			}
			if dns != "" {
				text += "dns=" + dns + "\n"
			}
		}
		if err := e.put(path.Join(nmDir, "openmigrate-"+nic.name+".nmconnection"), []byte(text), 0o600, whyNetwork); err != nil {
			return err
		}
	}
	return nil
}

// ethernet reports whether a keyfile is for a wired card.
func ethernet(b []byte) bool {
	for line := range strings.Lines(string(b)) {
		switch strings.ReplaceAll(strings.TrimSpace(line), " ", "") {
		case "type=ethernet", "type=802-3-ethernet":
			return true
		}
	}
	return false
}

// ifcfg is the ifcfg files of Red Hat, read by NetworkManager up to 9 or by the scripts before it.
type ifcfg struct{}

func (ifcfg) name() string { return "ifcfg" }

const ifcfgDir = "/etc/sysconfig/network-scripts"

func (ifcfg) files(t *tree.Tree) []string {
	return slices.DeleteFunc(t.Glob(ifcfgDir, "ifcfg-*"), func(name string) bool {
		return base(name) == "ifcfg-lo" || strings.HasSuffix(name, ".bak") || strings.HasSuffix(name, "~")
	})
}

func (i ifcfg) rank(t *tree.Tree) int {
	if len(i.files(t)) > 0 {
		return 3
	}
	return 0
}

func (i ifcfg) configure(e *editor, nics []staticNIC) error {
	for _, name := range i.files(e.Tree) {
		values := readVariables(e.Tree, name)
		device := values["DEVICE"]
		if device == "" {
			device = strings.TrimPrefix(base(name), "ifcfg-")
		}
		kind := strings.ToLower(values["TYPE"])
		if strings.HasPrefix(base(name), "ifcfg-openmigrate") || kind != "ethernet" && (kind != "" || !physical(device)) {
			continue
		}
		if base(name) == "ifcfg-eth0" && e.legacyIfcfg() {
			continue // replaced below
		}
		if err := e.removeNetwork(name); err != nil {
			return err
		}
	}
	name, text := path.Join(ifcfgDir, "ifcfg-openmigrate"), ours+"NAME=openmigrate\nTYPE=Ethernet\nMULTI_CONNECT=3\n"
	if e.legacyIfcfg() {
		// The scripts want a device.
		name, text = path.Join(ifcfgDir, "ifcfg-eth0"), ours+"DEVICE=eth0\nTYPE=Ethernet\n"
		e.args = append(e.args, "net.ifnames=0", "biosdevname=0")
	}
	text += "BOOTPROTO=dhcp\nONBOOT=yes\nDEFROUTE=yes\nPEERDNS=yes\nIPV6INIT=yes\n"
	if err := e.put(name, []byte(text), 0o644, whyNetwork); err != nil {
		return err
	}
	for _, nic := range nics {
		text := ours + fmt.Sprintf("NAME=openmigrate-%s\nDEVICE=%s\nHWADDR=%s\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=none\n", nic.name, nic.name, strings.ToUpper(nic.MAC))
		for j, a := range byFamily(nic.Addresses, true) {
			text += fmt.Sprintf("IPADDR%d=%s\nPREFIX%d=%d\n", j, a.Addr(), j, a.Bits())
		}
		if v6 := byFamily(nic.Addresses, false); len(v6) > 0 {
			text += fmt.Sprintf("IPV6INIT=yes\nIPV6ADDR=%s\nIPV6ADDR_SECONDARIES=%q\n", v6[0], list(v6[1:], " "))
		}
		if g := nic.Gateway; g.IsValid() {
			text += map[bool]string{true: "GATEWAY=", false: "IPV6_DEFAULTGW="}[g.Unmap().Is4()] + g.String() + "\n"
		}
		for j, d := range nic.DNS {
			text += fmt.Sprintf("DNS%d=%s\n", j+1, d)
		}
		if err := e.put(path.Join(ifcfgDir, "ifcfg-openmigrate-"+nic.name), []byte(text), 0o644, whyNetwork); err != nil {
			return err
		}
	}
	return nil
}

// legacyIfcfg reports whether the old scripts read the files, and not NetworkManager.
func (e *editor) legacyIfcfg() bool { return !e.Exists("/usr/sbin/NetworkManager") }

// wicked is SUSE's.
type wicked struct{}

func (wicked) name() string { return "wicked" }

const wickedDir = "/etc/sysconfig/network"

func (wicked) rank(t *tree.Tree) int {
	switch {
	case t.Any("/usr/sbin/wicked") == "" || !t.Exists(wickedDir):
		return 0
	case enabled(t, "wicked.service") || t.Exists(path.Join(wickedDir, "ifcfg-eth0")):
		return 3
	}
	return 1
}

func (wicked) configure(e *editor, nics []staticNIC) error {
	for _, name := range e.Glob(wickedDir, "ifcfg-*") {
		device := strings.TrimPrefix(base(name), "ifcfg-")
		if !physical(device) || device == "eth0" || slices.ContainsFunc(nics, func(n staticNIC) bool { return n.name == device }) {
			continue
		}
		if err := e.removeNetwork(name); err != nil {
			return err
		}
	}
	// It knows cards by name only.
	e.args = append(e.args, "net.ifnames=0")
	if err := e.put(path.Join(wickedDir, "ifcfg-eth0"), []byte(ours+"BOOTPROTO='dhcp'\nSTARTMODE='auto'\n"), 0o600, whyNetwork); err != nil {
		return err
	}
	for _, nic := range nics {
		text := ours + "BOOTPROTO='static'\nSTARTMODE='auto'\n"
		for j, a := range nic.Addresses {
			suffix := ""
			if j > 0 {
				suffix = fmt.Sprintf("_%d", j)
			}
			text += fmt.Sprintf("IPADDR%s='%s'\n", suffix, a)
		}
		if err := e.put(path.Join(wickedDir, "ifcfg-"+nic.name), []byte(text), 0o600, whyNetwork); err != nil {
			return err
		}
		if nic.Gateway.IsValid() {
			text := ours + fmt.Sprintf("default %s - %s\n", nic.Gateway, nic.name)
			if err := e.put(path.Join(wickedDir, "ifroute-"+nic.name), []byte(text), 0o600, whyNetwork); err != nil {
				return err
			}
		}
	}
	return nil
}
