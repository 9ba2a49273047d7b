package launch

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// plan is what a launch makes at its provider, decided before anything is made.
type plan struct {
	Type             string                 `json:"type"`
	Architecture     providers.Architecture `json:"architecture"`
	Firmware         providers.Firmware     `json:"firmware"`
	Bus              providers.Bus          `json:"bus"`
	Platform         providers.Platform     `json:"platform"`
	Zone             string                 `json:"zone,omitempty"`
	Network          string                 `json:"network"`
	Groups           []string               `json:"groups,omitempty"`
	MAC              string                 `json:"mac,omitempty"`
	Address          netip.Addr             `json:"address,omitzero"`
	Forward          []uint16               `json:"forward,omitempty"`
	Boot             int                    `json:"boot"` // index of the disk that the firmware starts from
	FromSnapshots    bool                   `json:"from_snapshots,omitempty"`
	CloneBySnapshot  bool                   `json:"clone_by_snapshot,omitempty"`
	Screenshot       bool                   `json:"screenshot,omitempty"`
	VolumeSettings   map[string]string      `json:"volume_settings,omitempty"`
	InstanceSettings map[string]string      `json:"instance_settings,omitempty"`
	MinVolume        int64                  `json:"min_volume,omitempty"`
}

// sizes is what a volume for a disk of that size asks for.
func (p *plan) sizes(_ int, size int64) int64 { return max(size, p.MinVolume) }

// planner decides a plan. Everything that it refuses is a *wire.Problem that says what to do, or an error of the provider's.
type planner struct {
	s        *Service
	kind     string
	machine  *catalog.Machine
	point    *catalog.Restpoint
	template wire.LaunchTemplate
	warnings []string

	caps     providers.Capabilities
	types    []providers.InstanceType
	networks []providers.Network
	need     providers.Need
	plan     plan
}

func unfit(format string, args ...any) *wire.Problem {
	return wire.NewProblem(409, wire.CodeConflict, format, args...)
}

// make fills in the template, which was checked, and decides the plan.
func (q *planner) make(ctx context.Context, launch string) error {
	if err := q.chooseProvider(); err != nil {
		return err
	}
	p, err := q.s.provider(q.template.Provider)
	if err != nil {
		return err
	}
	if q.caps, err = p.Capabilities(ctx); err == nil {
		if q.types, err = p.InstanceTypes(ctx); err == nil {
			q.networks, err = p.Networks(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("ask provider %s what it has: %w", q.template.Provider, err)
	}
	for _, step := range []func() error{q.usable, q.inspectInventory, q.chooseNetwork, q.chooseType, q.choosePorts, q.chooseAddress, q.checkDisks, q.split} {
		if err := step(); err != nil {
			return err
		}
	}
	if q.template.Address != nil {
		q.plan.MAC = macOf(launch)
	}
	// The provider's own rules, without asking it for anything.
	return q.dryRun()
}

func (q *planner) chooseProvider() error {
	if q.template.Provider != "" {
		return nil
	}
	names := q.s.providerNames()
	switch len(names) {
	case 0:
		return unfit("this master has no provider").WithNext("start it with one; openmigrate dev has one that runs machines under QEMU")
	case 1:
		q.template.Provider = names[0]
		return nil
	}
	return unfit("the launch template names no provider, and there are %s", strings.Join(names, ", ")).WithNext("name one: --provider " + names[0])
}

// usable refuses a provider that can run no machine now, or whose volumes nobody here can write.
func (q *planner) usable() error {
	switch {
	case q.caps.Unusable != "":
		return unfit("provider %s cannot run machines: %s", q.template.Provider, q.caps.Unusable).WithNext("mend that, then launch again")
	case q.template.Instant && !q.caps.Lazy:
		return unfit("provider %s cannot start a machine before its data is there", q.template.Provider).WithNext("launch without --instant")
	case q.template.Instant || slices.Contains(q.caps.Writers, providers.WriterFile):
	case slices.Contains(q.caps.Writers, providers.WriterDevice) && q.s.Writers[q.template.Provider] != "":
	default:
		return unfit("nobody here can write volumes of provider %s", q.template.Provider).WithNext("run a hydrator there and name its instance to the master")
	}
	return nil
}

// chooseNetwork takes an isolated one for a test, and another for a cutover.
func (q *planner) chooseNetwork() error {
	wanted := q.template.Network
	var names []string
	for _, n := range q.networks {
		names = append(names, n.ID)
		fits := wanted == "" && n.Isolated == (q.kind == wire.LaunchTest) && (q.template.Zone == "" || n.Zone == "" || n.Zone == q.template.Zone)
		if !fits && n.ID != wanted && (wanted == "" || n.Name != wanted) {
			continue
		}
		if n.Zone != "" && q.template.Zone != "" && n.Zone != q.template.Zone {
			return unfit("network %s is in zone %s, and the launch template says %s", n.ID, n.Zone, q.template.Zone).WithNext("change one of them")
		}
		if q.template.Zone == "" {
			q.template.Zone = n.Zone
		}
		if q.kind == wire.LaunchTest && !n.Isolated {
			q.warn("the test runs on network %s, from which it can reach others: it may act as the source does", n.ID)
		}
		q.template.Network, q.plan.Network, q.plan.Groups = n.ID, n.ID, q.template.Groups
		q.direct(n)
		return q.chooseZone()
	}
	if wanted != "" {
		return unfit("provider %s has no network %.80q", q.template.Provider, wanted).WithNext("it has " + strings.Join(names, ", "))
	}
	if q.kind == wire.LaunchTest {
		return unfit("provider %s has no isolated network for a test", q.template.Provider).
			WithNext("make one, or name in the launch template the network that the test may use: " + strings.Join(names, ", "))
	}
	return unfit("provider %s has no network for a cutover but isolated ones", q.template.Provider).WithNext("make one, or name one in the launch template")
}

// direct leaves out what a network does not take whose cards are not the provider's to configure.
func (q *planner) direct(n providers.Network) {
	if n.Direct {
		q.caps.Forwards, q.caps.Address = false, false
	}
}

func (q *planner) chooseZone() error {
	switch zone := q.template.Zone; {
	case zone == "" && len(q.caps.Zones) > 0:
		q.template.Zone = q.caps.Zones[0]
	case zone != "" && !slices.Contains(q.caps.Zones, zone):
		return unfit("provider %s has no zone %.80q", q.template.Provider, zone).WithNext("it has " + orNone(q.caps.Zones))
	}
	q.plan.Zone = q.template.Zone
	return nil
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none: leave it out"
	}
	return strings.Join(list, ", ")
}

// chooseType takes the type that is named, or the smallest that has what the source has.
func (q *planner) chooseType() error {
	q.need.Bus = providers.Bus(q.template.Bus)
	t, err := q.pick()
	if err != nil {
		return err
	}
	spec := providers.InstanceSpec{Architecture: q.need.Architecture, Firmware: q.need.Firmware, Bus: q.need.Bus}
	if err := spec.CheckType(t); err != nil {
		return unfit("%v", err).WithNext("change type, bus or firmware in the launch template")
	}
	q.template.Type, q.template.Bus, q.template.Firmware = t.ID, string(spec.Bus), string(spec.Firmware)
	q.plan.Type, q.plan.Bus, q.plan.Firmware, q.plan.Architecture, q.plan.Platform = t.ID, spec.Bus, spec.Firmware, spec.Architecture, t.Platform
	return nil
}

func (q *planner) pick() (providers.InstanceType, error) {
	if id := q.template.Type; id != "" {
		at := slices.IndexFunc(q.types, func(t providers.InstanceType) bool { return t.ID == id })
		if at >= 0 {
			return q.types[at], nil
		}
		if named, ok := q.s.Deps.Providers[q.template.Provider].(providers.TypeByName); ok {
			t, err := named.InstanceType(id)
			if err != nil {
				return t, unfit("%v", err).WithNext("change the type in the launch template")
			}
			return t, nil
		}
		return providers.InstanceType{}, unfit("provider %s has no instance type %.80q", q.template.Provider, id).
			WithNext("openmigrate providers ls -o json lists them; or leave it out")
	}
	t, err := providers.Pick(q.types, q.need)
	if err == nil {
		return t, nil
	}
	// Fewer processors make it slow; less memory makes it fail.
	need := q.need
	for _, t := range q.types {
		need.CPUs = min(q.need.CPUs, max(t.CPUs, need.CPUs%max(q.need.CPUs, 1)))
	}
	if most := slices.MaxFunc(q.types, func(a, b providers.InstanceType) int { return a.CPUs - b.CPUs }); q.template.CPUs == 0 && most.CPUs < q.need.CPUs {
		need.CPUs = most.CPUs
		if t, ferr := providers.Pick(q.types, need); ferr == nil {
			q.warn("the source has %d processors, and no type of provider %s has more than %d: it will be slower", q.need.CPUs, q.template.Provider, most.CPUs)
			return t, nil
		}
	}
	return t, unfit("%v", err).WithNext("name a type, or cpus and memory, in the launch template")
}

// choosePorts forwards what checks need to reach.
func (q *planner) choosePorts() error {
	if !q.caps.Forwards {
		if len(q.template.Forward) > 0 {
			return unfit("ports are not forwarded on network %s of provider %s", q.plan.Network, q.template.Provider).WithNext("leave forward out of the launch template")
		}
		return nil
	}
	for _, c := range q.template.Checks {
		if c.Port != 0 && !slices.Contains(q.template.Forward, c.Port) {
			q.template.Forward = append(q.template.Forward, c.Port)
		}
	}
	q.plan.Forward = q.template.Forward
	return nil
}

func (q *planner) chooseAddress() error {
	a := q.template.Address
	if a == nil {
		return nil
	}
	if !q.caps.MAC {
		return unfit("provider %s chooses the MAC addresses of cards itself, so a fixed address cannot be bound to one", q.template.Provider).
			WithNext("leave the address to DHCP")
	}
	if q.template.AsIs {
		return unfit("as_is changes nothing in the system, so it gets no fixed address").WithNext("leave out one of the two")
	}
	if q.caps.Address {
		q.plan.Address = a.Prefixes[0].Addr()
	}
	return nil
}

// checkDisks refuses sizes and numbers that the provider does not take.
func (q *planner) checkDisks() error {
	disks := q.point.Disks
	if most := min(q.caps.MaxDisks, wire.MaxLaunchDisks); len(disks) == 0 || len(disks) > most {
		return unfit("restpoint %s has %d disks, and provider %s takes 1 to %d", q.point.ID, len(disks), q.template.Provider, most)
	}
	for _, d := range disks {
		if _, err := q.caps.RoundSize(d.Size); err != nil {
			return unfit("disk %d: %v", d.Number, err)
		}
	}
	q.plan.FromSnapshots = !q.caps.CanMakeInstanceFrom(providers.FromVolume)
	q.plan.CloneBySnapshot = !q.caps.CanMakeVolumeFrom(providers.FromVolume)
	q.plan.Screenshot, q.plan.MinVolume = q.caps.Screenshot, q.caps.MinVolume
	if !q.caps.Screenshot {
		for _, c := range q.template.Checks {
			if c.Kind == wire.CheckScreenshot {
				return unfit("provider %s takes no screenshots", q.template.Provider).WithNext("leave that check out")
			}
		}
	}
	return nil
}

// split gives each setting to what knows it.
func (q *planner) split() error {
	for name, value := range q.template.Settings {
		known := false
		for _, place := range []struct {
			list []providers.Setting
			into *map[string]string
		}{{q.caps.VolumeSettings, &q.plan.VolumeSettings}, {q.caps.InstanceSettings, &q.plan.InstanceSettings}} {
			if !slices.ContainsFunc(place.list, func(s providers.Setting) bool { return s.Name == name }) {
				continue
			}
			if *place.into == nil {
				*place.into = map[string]string{}
			}
			(*place.into)[name], known = value, true
		}
		if !known {
			return unfit("provider %s has no setting %.80q", q.template.Provider, name).WithNext("openmigrate providers ls -o json lists them")
		}
	}
	return nil
}

// dryRun has the specs checked as the provider will, with ids that stand for what is not made yet.
func (q *planner) dryRun() error {
	l := row{ID: "0123456789abcdef0123456789abcdef", Kind: q.kind, MachineName: q.machine.Name, Plan: q.plan}
	for i, d := range q.point.Disks {
		l.Disks = append(l.Disks, disk{ID: d.ID, Size: d.Size, Volume: fmt.Sprint("v", i), Snapshot: fmt.Sprint("s", i)})
		v := providers.VolumeSpec{Meta: l.meta(q.s.System, l.numbered("v", i), i), Size: q.plan.sizes(i, d.Size), Zone: q.plan.Zone, Settings: q.plan.VolumeSettings}
		if err := v.Check(&q.caps); err != nil {
			return unfit("%v", err).WithNext("change the launch template")
		}
	}
	i := l.instance(q.s.System)
	if err := i.Check(&q.caps); err != nil {
		return unfit("%v", err).WithNext("change the launch template")
	}
	return nil
}

func (q *planner) warn(format string, args ...any) {
	q.warnings = append(q.warnings, fmt.Sprintf(format, args...))
}
