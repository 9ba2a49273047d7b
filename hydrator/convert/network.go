package convert

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// networkTool is a program that gives network cards their addresses. To add one, implement this and put it into networkTools.
type networkTool interface {
	name() string

	// rank tells how sure it is that this tool is in charge of the machine's cards: 0 not installed, 1 installed, 2 enabled or
	// the distribution's own, 3 with a configuration of a card.
	rank(*tree.Tree) int

	// configure gives every card of the target an address and puts away what was configured for the old ones.
	configure(*editor, []staticNIC) error
}

// networkTools, of two with the same rank the first one counts.
var networkTools = []networkTool{netplan{}, wicked{}, ifcfg{}, networkManager{}, ifupdown{}, networkd{}}

// staticNIC is a card with a fixed address, and the name that a rule gives to it.
type staticNIC struct {
	NIC
	name string
}

const (
	whyNetwork = "the network cards of the target get an address"
	whyOldNIC  = "it was for a network card of the old machine"
	ours       = "# Written by OpenMigrate. What was configured before is in " + backupDir + ".\n"
)

// readNetworks lists the tools that are there, the one in charge first.
func readNetworks(t *tree.Tree) []string {
	var names []string
	for rank := 3; rank > 0; rank-- {
		for _, tool := range networkTools {
			if tool.rank(t) == rank {
				names = append(names, tool.name())
			}
		}
	}
	return names
}

// convertNetwork lets any card of the target work, whatever the kernel calls it.
func convertNetwork(e *editor) error {
	if err := convertPins(e); err != nil {
		return err
	}
	var nics []staticNIC
	rules := ""
	for i, n := range e.target.NICs {
		nic := staticNIC{n, fmt.Sprintf("lan%d", i)}
		nics = append(nics, nic)
		rules += fmt.Sprintf("SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{type}==\"1\", ATTR{address}==\"%s\", NAME=\"%s\"\n",
			strings.ToLower(n.MAC), nic.name)
	}
	const ruleFile = "/etc/udev/rules.d/70-openmigrate-net.rules"
	if rules != "" {
		if err := e.put(ruleFile, []byte(ours+rules), 0o644, "a card with a fixed address is known by its MAC address"); err != nil {
			return err
		}
	} else if err := e.remove(ruleFile, "no card has a fixed address"); err != nil {
		return err
	}
	if len(e.system.Networks) == 0 {
		e.warn("nothing was found that configures network cards: the machine may start without an address")
		return nil
	}
	for _, tool := range networkTools {
		if tool.name() == e.system.Networks[0] {
			return tool.configure(e, nics)
		}
	}
	return nil
}

// removeNetwork puts a network file away, and tells of what was in it that the new one does not have.
func (e *editor) removeNetwork(name string) error {
	if b, err := e.ReadFile(name); err == nil {
		e.lost(name, b)
	}
	return e.remove(name, whyOldNIC)
}

// lost warns of bonds and the like in a file that is replaced: they name cards that are gone.
func (e *editor) lost(name string, b []byte) {
	if m := layered.Find(b); m != nil {
		e.warn("%s has a %s, which was not carried over: see %s", name, strings.ToLower(strings.TrimSpace(string(m))), path.Join(backupDir, name))
	}
}

var layered = regexp.MustCompile(`(?i)\b(bond|bridge|vlan)`)

// netRule is a rule of udev's that names network cards.
var netRule = regexp.MustCompile(`SUBSYSTEM=="net".*NAME\s*:?=|NAME\s*:?=.*SUBSYSTEM=="net"`)

// convertPins removes what ties names to the old cards.
func convertPins(e *editor) error {
	for _, name := range e.Glob("/etc/udev/rules.d", "*.rules") {
		if base(name) == "70-openmigrate-net.rules" {
			continue
		}
		if link, err := e.Readlink(name); err == nil && link == "/dev/null" {
			continue
		}
		b, err := e.ReadFile(name)
		if err != nil || !netRule.Match(b) {
			continue
		}
		if err := e.remove(name, "its rules give names to the network cards of the old machine"); err != nil {
			return err
		}
	}
	for _, name := range e.Glob("/etc/systemd/network", "*.link") {
		b, err := e.ReadFile(name)
		if err != nil || !pinned(b, "MACAddress", "PermanentMACAddress", "Path", "Driver", "OriginalName", "Property") {
			continue
		}
		if err := e.remove(name, "it names a network card of the old machine"); err != nil {
			return err
		}
	}
	return nil
}

// pinned reports whether the [Match] section of a systemd file has one of these keys with a value that is no pattern.
func pinned(b []byte, keys ...string) bool {
	section := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if ok && section == "[Match]" && slices.Contains(keys, strings.TrimSpace(key)) && strings.TrimSpace(value) != "*" {
			return true
		}
	}
	return false
}

// enabled reports whether a unit is started at boot.
func enabled(t *tree.Tree, unit string) bool {
	for _, dir := range t.Glob("/etc/systemd/system", "*.wants") {
		if _, err := t.Lstat(path.Join(dir, unit)); err == nil {
			link, err := t.Readlink(path.Join("/etc/systemd/system", unit))
			return err != nil || link != "/dev/null"
		}
	}
	return false
}

// physical reports whether a name is one that kernel, udev or a rule gives to a real card.
func physical(name string) bool {
	return physicalName.MatchString(name)
}

var physicalName = regexp.MustCompile(`^(eth|en[opsxbvacdfu]|em|p\d+p|wlan|wl|lan|net|nic|rename)[0-9a-z]*`)

// list joins addresses.
func list[T fmt.Stringer](values []T, separator string) string {
	var out []string
	for _, v := range values {
		out = append(out, v.String())
	}
	return strings.Join(out, separator)
}

// byFamily returns addresses of version 4 or of version 6.
func byFamily(values []netip.Prefix, v4 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, v := range values {
		if v.Addr().Unmap().Is4() == v4 {
			out = append(out, v)
		}
	}
	return out
}
