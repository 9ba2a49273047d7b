package launch

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// Limits of what a launch may say of itself. Whether a provider has such a type, network or zone is the planner's to find out.
const (
	maxText      = 256 // bytes of a check's text
	maxURLPath   = 1024
	maxForward   = 64
	maxAddresses = 8
	maxGroups    = 16
	maxCPUs      = 4096
	maxMemory    = 64 << 40 // bytes
	maxCheckTime = 24 * time.Hour
	maxDeadline  = 366 * 24 * time.Hour

	checkTime       = 10 * time.Minute // of a check that does not say
	defaultDeadline = 24 * time.Hour   // of a test that does not say
)

// badField refuses a request or a template for one field, which is of the template unless underTemplate moves it.
func badField(field, format string, args ...any) *wire.Problem {
	b := wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, format, args...).WithNext("change the launch template")
	b.Field = field
	return b
}

// CheckRequest refuses what no launch can be, wherever and of whatever machine: a *wire.Problem with the field that is wrong and what to do.
func CheckRequest(q *wire.LaunchRequest) error {
	rollback := q.Kind == wire.LaunchCutover && q.Restpoint != ""
	hold := time.Duration(q.HoldTimeout)
	switch {
	case q.Kind != wire.LaunchTest && q.Kind != wire.LaunchCutover:
		return badField("kind", "kind %.40q: want test or cutover", q.Kind).WithNext("openmigrate launch test, or openmigrate launch cutover")
	case !printable(q.Machine, 1, wire.MaxNameLength):
		return badField("machine", "machine %.40q: want a machine's name or id", q.Machine).WithNext("openmigrate machines ls")
	case !printable(q.Restpoint, 0, wire.MaxNameLength):
		return badField("restpoint", "restpoint %.40q: want a restpoint's id, or M/latest", q.Restpoint).WithNext("openmigrate restpoints ls " + q.Machine)
	case q.StopSource && (q.Kind == wire.LaunchTest || rollback):
		return badField("stop_source", "stop_source: neither a test nor a cutover from an older restpoint touches the source").WithNext("leave it out")
	case hold != 0 && (q.Kind == wire.LaunchTest || rollback):
		return badField("hold_timeout", "hold_timeout: neither a test nor a cutover from an older restpoint freezes the source").WithNext("leave it out")
	case hold != 0 && (hold < time.Minute || hold > wire.MaxHold):
		return badField("hold_timeout", "hold_timeout %v: want 1m to %v, or 0 for %v", hold, wire.MaxHold, wire.DefaultHold).WithNext("choose another")
	case q.Template == nil:
		return nil
	}
	return under("template", checkTemplate(q.Template, q.Kind))
}

// under names the field that holds a field. It returns a plain error, so that nil stays nil.
func under(name string, p *wire.Problem) error {
	if p == nil {
		return nil
	}
	p.Field = name + "." + p.Field
	return p
}

// checkTemplate refuses what no template can be, and brings the rest into one form. kind is empty for a machine's template, which serves both.
func checkTemplate(t *wire.LaunchTemplate, kind string) *wire.Problem {
	const asProvider = "openmigrate providers ls -o json shows what there is"
	for _, f := range []struct{ name, value string }{{"provider", t.Provider}, {"type", t.Type}, {"zone", t.Zone}, {"network", t.Network}} {
		if !printable(f.value, 0, wire.MaxNameLength) {
			return badField(f.name, "%s %.40q: want up to %d bytes of printable text", f.name, f.value, wire.MaxNameLength).WithNext(asProvider)
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
	case t.Instant && kind == wire.LaunchCutover:
		return badField("instant", "instant: only a test starts from staging; a cutover's disks are whole before it starts").
			WithNext("leave it out, or keep a warm copy (warm) so that little is left to write")
	case t.Instant && t.Warm && kind == "":
		return badField("warm", "a launch starts from standing volumes or from staging, not from both").WithNext("leave out warm or instant")
	case len(t.Groups) > maxGroups || slices.ContainsFunc(t.Groups, func(g string) bool { return !printable(g, 1, wire.MaxNameLength) }):
		return badField("groups", "groups: want up to %d names, of up to %d bytes of printable text", maxGroups, wire.MaxNameLength)
	case len(t.Settings) > providers.MaxTags:
		return badField("settings", "%d settings, at most %d", len(t.Settings), providers.MaxTags)
	case len(t.Checks) > wire.MaxChecks:
		return badField("checks", "%d checks, at most %d", len(t.Checks), wire.MaxChecks)
	}
	for k, v := range t.Settings {
		if !printable(k, 1, providers.MaxTagKey) || !printable(v, 0, providers.MaxSetting) {
			return badField("settings", "setting %.40q=%.40q: want printable text", k, v).WithNext(asProvider)
		}
	}
	if p := checkPorts(t.Forward); p != nil {
		return p
	}
	if t.Address != nil {
		if p := checkAddress(t.Address); p != nil {
			return p
		}
	}
	for i := range t.Checks {
		if p := checkCheck(&t.Checks[i]); p != nil {
			return p
		}
	}
	slices.Sort(t.Forward)
	return nil
}

func checkPorts(ports []uint16) *wire.Problem {
	if len(ports) > maxForward {
		return badField("forward", "%d ports, at most %d", len(ports), maxForward)
	}
	for i, p := range ports {
		if p == 0 || slices.Contains(ports[:i], p) {
			return badField("forward", "port %d: want each port from 1 to 65535 once", p)
		}
	}
	return nil
}

func checkAddress(a *wire.LaunchAddress) *wire.Problem {
	if len(a.Prefixes) == 0 || len(a.Prefixes) > maxAddresses {
		return badField("address", "%d addresses, want 1 to %d such as 192.0.2.7/24", len(a.Prefixes), maxAddresses).WithNext("leave address out for DHCP")
	}
	for _, p := range a.Prefixes {
		if ip := p.Addr(); !p.IsValid() || !unicast(ip) || ip.IsLoopback() {
			return badField("address", "address %v: want a host's, with the length of its network, such as 192.0.2.7/24", p)
		}
	}
	if a.Gateway.IsValid() && !slices.ContainsFunc(a.Prefixes, func(p netip.Prefix) bool {
		return p.Contains(a.Gateway) && p.Addr() != a.Gateway
	}) && !a.Gateway.IsLinkLocalUnicast() {
		return badField("gateway", "gateway %v: it is in none of the networks of %v", a.Gateway, a.Prefixes)
	}
	if len(a.DNS) > maxAddresses {
		return badField("dns", "%d name servers, at most %d", len(a.DNS), maxAddresses)
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

func checkCheck(k *wire.LaunchCheck) *wire.Problem {
	bad := func(format string, args ...any) *wire.Problem { return badField("checks", format, args...) }
	kinds := []string{wire.CheckBoot, wire.CheckConsole, wire.CheckTCP, wire.CheckHTTP, wire.CheckCallHome, wire.CheckScreenshot}
	web := k.Kind == wire.CheckHTTP
	switch {
	case !slices.Contains(kinds, k.Kind):
		return bad("check %.40q: want one of %s", k.Kind, strings.Join(kinds, ", "))
	case k.Timeout < 0 || time.Duration(k.Timeout) > maxCheckTime:
		return bad("check %s: timeout %v: want up to %v, or 0 for %v", k.Kind, time.Duration(k.Timeout), maxCheckTime, checkTime)
	case (k.Port != 0) != (web || k.Kind == wire.CheckTCP):
		return bad("check %s: tcp and http have a port, from 1 to 65535, and the others have none", k.Kind)
	case k.Kind == wire.CheckConsole && !printable(k.Text, 1, maxText), web && !printable(k.Text, 0, maxText):
		return bad("check %s: text %.40q: want up to %d bytes of one line to look for", k.Kind, k.Text, maxText)
	case !web && k.Kind != wire.CheckConsole && k.Text != "":
		return bad("check %s has no text", k.Kind)
	case !web && (k.Path != "" || k.Status != 0):
		return bad("check %s has no path and no status", k.Kind)
	case k.Path != "" && (!printable(k.Path, 1, maxURLPath) || k.Path[0] != '/' || strings.ContainsAny(k.Path, " #")):
		return bad("check http: path %.40q: want one that begins with /, and may have a query", k.Path)
	case k.Status != 0 && (k.Status < 100 || k.Status > 599):
		return bad("check http: status %d: want 100 to 599, or 0 for 200", k.Status)
	}
	if web && k.Path == "" {
		k.Path = "/"
	}
	return nil
}

// printable reports whether s is printable text of one line.
func printable(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
