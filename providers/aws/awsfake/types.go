package awsfake

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Type is an instance type.
type Type struct {
	Name        string
	VCPUs       int
	MemoryMiB   int
	Arch        []string // "x86_64", "arm64", "i386"
	BootModes   []string // "legacy-bios", "uefi"
	Hypervisor  string   // "nitro", "xen"
	Attachments int      // volumes; with cards when Shared
	Shared      bool
	NICs        int
	Zones       []string // that offer it, by their last letter; all when empty
	Previous    bool     // of a previous generation
}

// DefaultTypes are a few, with the properties that AWS documents for them (UG/instance-types; "Amazon EBS volume limits for Amazon EC2 instances").
var DefaultTypes = []Type{
	{Name: "t2.micro", VCPUs: 1, MemoryMiB: 1024, Arch: []string{"i386", "x86_64"}, BootModes: []string{"legacy-bios"}, Hypervisor: "xen", Attachments: 39, NICs: 2},
	{Name: "t3.micro", VCPUs: 2, MemoryMiB: 1024, Arch: []string{"x86_64"}, BootModes: []string{"legacy-bios", "uefi"}, Hypervisor: "nitro", Attachments: 27, Shared: true, NICs: 2},
	{Name: "t3.small", VCPUs: 2, MemoryMiB: 2048, Arch: []string{"x86_64"}, BootModes: []string{"legacy-bios", "uefi"}, Hypervisor: "nitro", Attachments: 27, Shared: true, NICs: 3},
	{Name: "t4g.micro", VCPUs: 2, MemoryMiB: 1024, Arch: []string{"arm64"}, BootModes: []string{"uefi"}, Hypervisor: "nitro", Attachments: 27, Shared: true, NICs: 2},
	{Name: "m5.large", VCPUs: 2, MemoryMiB: 8192, Arch: []string{"x86_64"}, BootModes: []string{"legacy-bios", "uefi"}, Hypervisor: "nitro", Attachments: 27, Shared: true, NICs: 3},
	{Name: "m5.4xlarge", VCPUs: 16, MemoryMiB: 65536, Arch: []string{"x86_64"}, BootModes: []string{"legacy-bios", "uefi"}, Hypervisor: "nitro", Attachments: 27, Shared: true, NICs: 8},
	{Name: "m7i.large", VCPUs: 2, MemoryMiB: 8192, Arch: []string{"x86_64"}, BootModes: []string{"legacy-bios", "uefi"}, Hypervisor: "nitro", Attachments: 32, NICs: 3, Zones: []string{"a"}},
	{Name: "m7i.48xlarge", VCPUs: 192, MemoryMiB: 786432, Arch: []string{"x86_64"}, BootModes: []string{"legacy-bios", "uefi"}, Hypervisor: "nitro", Attachments: 128, NICs: 15},
}

func (t *Type) offered(zone string) bool {
	return len(t.Zones) == 0 || slices.Contains(t.Zones, zone[len(zone)-1:])
}

// attachments are the volumes that an instance of the type takes. Shared limits count the network cards; here always one.
func (t *Type) attachments() int {
	if t.Attachments == 0 {
		return 28
	}
	return t.Attachments
}

func noType(name string) error {
	return fail("InvalidInstanceType", fmt.Sprintf("The following supplied instance types do not exist: [%s]", name))
}

func (t *Type) nodes() []node {
	nvme, ena, limit := "required", "required", "dedicated"
	if t.Hypervisor == "xen" {
		nvme, ena = "unsupported", "unsupported"
	}
	if t.Shared {
		limit = "shared"
	}
	words := func(name string, list []string) node {
		n := node{name: name}
		for _, w := range list {
			n.kids = append(n.kids, el("item", w))
		}
		return n
	}
	return []node{el("instanceType", t.Name), el("currentGeneration", !t.Previous), el("bareMetal", false), el("hypervisor", t.Hypervisor),
		el("processorInfo", words("supportedArchitectures", t.Arch)), el("vCpuInfo", el("defaultVCpus", t.VCPUs)), el("memoryInfo", el("sizeInMiB", t.MemoryMiB)),
		words("supportedBootModes", t.BootModes), words("supportedRootDeviceTypes", []string{"ebs"}), words("supportedUsageClasses", []string{"on-demand", "spot"}),
		words("supportedVirtualizationTypes", []string{"hvm"}),
		el("ebsInfo", el("nvmeSupport", nvme), el("encryptionSupport", "supported"), el("maximumEbsAttachments", t.attachments()), el("attachmentLimitType", limit)),
		el("networkInfo", el("enaSupport", ena), el("maximumNetworkInterfaces", t.NICs))}
}

// describeInstanceTypes: EC2/DescribeInstanceTypes.
func (s *Server) describeInstanceTypes(c *call) ([]node, error) {
	names := c.in.list("InstanceType")
	if names == nil {
		names = slices.Sorted(maps.Keys(s.types))
	}
	var list []*Type
	for _, n := range names {
		t := s.types[n]
		if t == nil {
			return nil, noType(n)
		}
		ok, err := matches(c.in, func(name string) ([]string, bool) {
			switch name {
			case "instance-type":
				return []string{t.Name}, true
			case "current-generation":
				return []string{fmt.Sprint(!t.Previous)}, true
			case "processor-info.supported-architecture":
				return t.Arch, true
			case "hypervisor":
				return []string{t.Hypervisor}, true
			case "bare-metal":
				return []string{"false"}, true
			case "supported-boot-mode":
				return t.BootModes, true
			}
			return nil, false
		})
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, t)
		}
	}
	list, next, err := page(c.in, list, 5, 100)
	return append(next, set("instanceTypeSet", list, (*Type).nodes)), err
}

// describeOfferings: EC2/DescribeInstanceTypeOfferings.
func (s *Server) describeOfferings(c *call) ([]node, error) {
	where := cmp.Or(c.in["LocationType"], "region")
	type offer struct{ kind, place string }
	var list []offer
	for _, name := range slices.Sorted(maps.Keys(s.types)) {
		places := []string{s.opts.Region}
		if where == "availability-zone" {
			places = slices.DeleteFunc(s.Zones(), func(z string) bool { return !s.types[name].offered(z) })
		}
		for _, p := range places {
			ok, err := matches(c.in, func(f string) ([]string, bool) {
				switch f {
				case "instance-type":
					return []string{name}, true
				case "location":
					return []string{p}, true
				}
				return nil, false
			})
			if err != nil {
				return nil, err
			}
			if ok {
				list = append(list, offer{name, p})
			}
		}
	}
	list, next, err := page(c.in, list, 5, 1000)
	return append(next, set("instanceTypeOfferingSet", list, func(o offer) []node {
		return []node{el("instanceType", o.kind), el("locationType", where), el("location", o.place)}
	})), err
}

// describeZones: EC2/DescribeAvailabilityZones.
func (s *Server) describeZones(c *call) ([]node, error) {
	var list []string
	for _, z := range s.Zones() {
		ok, err := matches(c.in, func(name string) ([]string, bool) {
			switch name {
			case "zone-name":
				return []string{z}, true
			case "state":
				return []string{"available"}, true
			case "zone-type":
				return []string{"availability-zone"}, true
			case "region-name":
				return []string{s.opts.Region}, true
			case "opt-in-status":
				return []string{"opt-in-not-required"}, true
			}
			return nil, false
		})
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, z)
		}
	}
	return []node{set("availabilityZoneInfo", list, func(z string) []node {
		return []node{el("zoneName", z), el("zoneState", "available"), el("regionName", s.opts.Region), el("zoneId", strings.ReplaceAll(z, "-", "")+"-az"), el("zoneType", "availability-zone"),
			el("optInStatus", "opt-in-not-required")}
	})}, nil
}
