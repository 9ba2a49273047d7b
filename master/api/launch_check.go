package api

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// Limits of what a launch may say of itself. Whether a provider has such a type, network or zone is the engine's to find out.
const (
	maxRef      = 256 // bytes of a name or id
	maxMark     = 256 // bytes of a check's text
	maxURLPath  = 1024
	maxForwards = 64
	maxAddrs    = 8
	maxGroups   = 16
	maxCPUs     = 4096
	maxMemory   = 64 << 40 // bytes
	maxCheck    = 24 * time.Hour
	maxDeadline = 366 * 24 * time.Hour
)

// checkLaunch refuses what no launch can be. It returns a plain error, so that nil stays nil.
func checkLaunch(q *wire.LaunchRequest) error {
	rollback := q.Kind == wire.LaunchCutover && q.Restpoint != ""
	switch {
	case q.Kind != wire.LaunchTest && q.Kind != wire.LaunchCutover:
		return badField("kind", "kind %.40q: want test or cutover", q.Kind)
	case !words(q.Machine, 1, maxRef):
		return badField("machine", "machine %.40q: want a machine's name or id", q.Machine).WithNext("openmigrate machines ls")
	case !words(q.Restpoint, 0, maxRef):
		return badField("restpoint", "restpoint %.40q: want a restpoint's id, or M/latest", q.Restpoint).WithNext("openmigrate restpoints ls " + q.Machine)
	case q.StopSource && (q.Kind == wire.LaunchTest || rollback):
		return badField("stop_source", "stop_source: neither a test nor a cutover from an older restpoint touches the source").WithNext("leave it out")
	case q.HoldTimeout != 0 && (q.Kind == wire.LaunchTest || rollback):
		return badField("hold_timeout", "hold_timeout: neither a test nor a cutover from an older restpoint freezes the source").WithNext("leave it out")
	case q.HoldTimeout < 0 || time.Duration(q.HoldTimeout) > wire.MaxHold:
		return badField("hold_timeout", "hold_timeout %v: want up to %v, or 0 for %v", time.Duration(q.HoldTimeout), wire.MaxHold, wire.DefaultHold)
	case q.Template == nil:
		return nil
	}
	if q.Kind == wire.LaunchCutover && q.Template.Instant {
		return badField("template.instant", "instant: only a test starts from staging; a cutover's disks are whole before it starts").WithNext("leave it out, or keep a warm copy (warm) so that little is left to write")
	}
	return under("template", checkTemplate(q.Template))
}

// under names the field that holds a field.
func under(name string, err error) error {
	if p := (*wire.Problem)(nil); asProblem(err, &p) {
		p.Field = name + "." + p.Field
		return p
	}
	return err
}

func checkTemplate(t *wire.LaunchTemplate) error {
	const asProvider = "openmigrate providers ls -o json shows what there is"
	for _, f := range []struct{ name, value string }{
		{"provider", t.Provider}, {"type", t.Type}, {"zone", t.Zone}, {"network", t.Network},
	} {
		if !words(f.value, 0, maxRef) {
			return badField(f.name, "%s %.40q: want up to %d bytes of printable text", f.name, f.value, maxRef).WithNext(asProvider)
		}
	}
	buses := []string{string(providers.VirtioBlk), string(providers.VirtioSCSI), string(providers.NVMe), string(providers.AHCI), string(providers.PVSCSI), string(providers.XenBlk)}
	switch {
	case t.Type != "" && (t.CPUs != 0 || t.Memory != 0):
		return badField("type", "type %s says how many processors and how much memory there are", t.Type).WithNext("leave out type, or cpus and memory")
	case t.CPUs < 0 || t.CPUs > maxCPUs:
		return badField("cpus", "cpus %d: want 1 to %d, or 0 for as many as the source has", t.CPUs, maxCPUs)
	case t.Memory < 0 || t.Memory > maxMemory:
		return badField("memory", "memory %d: want bytes up to %d, or 0 for as much as the source has", t.Memory, int64(maxMemory))
	case t.Firmware != "" && t.Firmware != string(providers.BIOS) && t.Firmware != string(providers.UEFI):
		return badField("firmware", "firmware %.40q: want bios or uefi, or nothing for the source's", t.Firmware)
	case t.Bus != "" && !slices.Contains(buses, t.Bus):
		return badField("bus", "bus %.40q: want one of %s", t.Bus, strings.Join(buses, ", "))
	case time.Duration(t.Deadline).Abs() > maxDeadline:
		return badField("deadline", "deadline %v: want up to %v, 0 for a day, or a negative one for none", time.Duration(t.Deadline), maxDeadline)
	case len(t.Groups) > maxGroups:
		return badField("groups", "%d groups, at most %d", len(t.Groups), maxGroups)
	case len(t.Settings) > providers.MaxTags:
		return badField("settings", "%d settings, at most %d", len(t.Settings), providers.MaxTags)
	case len(t.Checks) > wire.MaxChecks:
		return badField("checks", "%d checks, at most %d", len(t.Checks), wire.MaxChecks)
	}
	for _, g := range t.Groups {
		if !words(g, 1, maxRef) {
			return badField("groups", "group %.40q: want up to %d bytes of printable text", g, maxRef)
		}
	}
	for k, v := range t.Settings {
		if !words(k, 1, providers.MaxTagKey) || !words(v, 0, providers.MaxSetting) {
			return badField("settings", "setting %.40q=%.40q: want printable text", k, v).WithNext(asProvider)
		}
	}
	if err := checkPorts("forward", t.Forward); err != nil {
		return err
	}
	if t.Address != nil {
		if err := checkAddress(t.Address); err != nil {
			return err
		}
	}
	for i := range t.Checks {
		if err := checkCheck(&t.Checks[i]); err != nil {
			return err
		}
	}
	return nil
}

func checkPorts(field string, ports []uint16) error {
	if len(ports) > maxForwards {
		return badField(field, "%d ports, at most %d", len(ports), maxForwards)
	}
	for i, p := range ports {
		if p == 0 || slices.Contains(ports[:i], p) {
			return badField(field, "port %d: want each port from 1 to 65535 once", p)
		}
	}
	return nil
}

func checkAddress(a *wire.LaunchAddress) error {
	if len(a.Prefixes) == 0 || len(a.Prefixes) > maxAddrs {
		return badField("address", "%d addresses, want 1 to %d such as 192.0.2.7/24", len(a.Prefixes), maxAddrs).WithNext("leave address out for DHCP")
	}
	for _, p := range a.Prefixes {
		if ip := p.Addr(); !p.IsValid() || !unicast(ip) {
			return badField("address", "address %v: want a host's, with the length of its network, such as 192.0.2.7/24", p)
		}
	}
	if a.Gateway.IsValid() && !slices.ContainsFunc(a.Prefixes, func(p netip.Prefix) bool {
		return p.Contains(a.Gateway) && p.Addr() != a.Gateway
	}) && !a.Gateway.IsLinkLocalUnicast() {
		return badField("gateway", "gateway %v: it is in none of the networks of %v", a.Gateway, a.Prefixes)
	}
	if len(a.DNS) > maxAddrs {
		return badField("dns", "%d name servers, at most %d", len(a.DNS), maxAddrs)
	}
	for _, d := range a.DNS {
		if !unicast(d) {
			return badField("dns", "name server %v: want an address", d)
		}
	}
	return nil
}

// unicast reports whether an address can be a host's. A zone would be another host's matter.
func unicast(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && !a.Is4In6()
}

func checkCheck(k *wire.LaunchCheck) error {
	bad := func(format string, args ...any) error { return badField("checks", format, args...) }
	kinds := []string{wire.CheckBoot, wire.CheckConsole, wire.CheckTCP, wire.CheckHTTP, wire.CheckCallHome, wire.CheckScreenshot}
	web := k.Kind == wire.CheckHTTP
	switch {
	case !slices.Contains(kinds, k.Kind):
		return bad("check %.40q: want one of %s", k.Kind, strings.Join(kinds, ", "))
	case k.Timeout < 0 || time.Duration(k.Timeout) > maxCheck:
		return bad("check %s: timeout %v: want up to %v, or 0 for 10m", k.Kind, time.Duration(k.Timeout), maxCheck)
	case (k.Port != 0) != (web || k.Kind == wire.CheckTCP):
		return bad("check %s: tcp and http have a port, from 1 to 65535, and the others have none", k.Kind)
	case k.Kind == wire.CheckConsole && !words(k.Text, 1, maxMark), web && !words(k.Text, 0, maxMark):
		return bad("check %s: text %.40q: want up to %d bytes of one line to look for", k.Kind, k.Text, maxMark)
	case !web && k.Kind != wire.CheckConsole && k.Text != "":
		return bad("check %s has no text", k.Kind)
	case !web && (k.Path != "" || k.Status != 0):
		return bad("check %s has no path and no status", k.Kind)
	case k.Path != "" && (!words(k.Path, 1, maxURLPath) || k.Path[0] != '/' || strings.ContainsAny(k.Path, " #")):
		return bad("check http: path %.40q: want one that begins with /, and may have a query", k.Path)
	case k.Status != 0 && (k.Status < 100 || k.Status > 599):
		return bad("check http: status %d: want 100 to 599, or 0 for 200", k.Status)
	}
	return nil
}

// checkCallHome bounds what a guest says of itself; the engine keeps it.
func checkCallHome(h *wire.CallHome) error {
	for _, f := range []struct {
		name, value string
		least       int
	}{{"launch", h.Launch, 1}, {"secret", h.Secret, 1}, {"hostname", h.Hostname, 0}, {"boot_id", h.BootID, 0}} {
		if !words(f.value, f.least, maxRef) {
			return badField(f.name, "%s: want %d to %d bytes of printable text", f.name, f.least, maxRef)
		}
	}
	return nil
}

// words reports whether s is printable text of one line.
func words(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
