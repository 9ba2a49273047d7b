package aws

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
)

const gib = 1 << 30

// known is what seldom changes, and when it was read.
type known struct {
	at    time.Time
	zones []string
	types []typeInfo
}

// typeInfo is an instance type and what only this provider asks of it.
type typeInfo struct {
	providers.InstanceType
	disks int // volumes that it takes
	nics  int
	ena   bool
}

// fresh is for how long the catalogue is not read again.
const fresh = 10 * time.Minute

// VolumeSettings of CreateVolume (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html), also for an instance's disks.
var volumeSettings = []providers.Setting{
	{Name: "volume_type", Help: "EBS volume type; gp3 when left out", Values: []string{"gp3", "gp2", "io1", "io2", "st1", "sc1", "standard"}},
	{Name: "iops", Help: "IOPS of gp3, io1 and io2"},
	{Name: "throughput", Help: "MiB/s of gp3"},
	{Name: "kms_key", Help: "ARN, id or alias of the KMS key that encrypts it; the account's default when left out"},
	{Name: "encrypted", Help: "true encrypts with the account's default key", Values: []string{"true", "false"}},
}

var instanceSettings = append(slices.Clone(volumeSettings),
	providers.Setting{Name: "instance_profile", Help: "name or ARN of the instance profile"},
	providers.Setting{Name: "imds", Help: "instance metadata: required (version 2 only, the default), optional, or disabled", Values: []string{"required", "optional", "disabled"}},
	providers.Setting{Name: "termination_protection", Help: "true refuses terminations by others; a revert of the launch lifts it", Values: []string{"true", "false"}},
	providers.Setting{Name: "tenancy", Help: "placement", Values: []string{"default", "dedicated", "host"}},
	providers.Setting{Name: "placement_group", Help: "name of the placement group"},
	providers.Setting{Name: "license_configuration", Help: "ARN of a License Manager configuration"},
	providers.Setting{Name: "key_name", Help: "key pair that the console shows; nothing is put onto the disks"},
)

// Capabilities implements providers.Catalogue.
func (p *Provider) Capabilities(ctx context.Context) (providers.Capabilities, error) {
	k, err := p.catalogue(ctx)
	if err != nil {
		return providers.Capabilities{}, err
	}
	c := providers.Capabilities{
		Provider: p.opts.Cloud.name(), Zones: k.zones, MinVolume: gib, MaxVolume: 64 << 40, VolumeStep: gib,
		VolumeSources: []providers.SourceKind{providers.FromNothing, providers.FromSnapshot}, SnapshotInUse: true, Writers: []providers.WriterKind{providers.WriterDevice},
		InstanceSources: []providers.SourceKind{providers.FromSnapshot}, MaxDisks: 128, MaxNICs: 15, Address: true, Console: true, Screenshot: !p.opts.Cloud.NoScreen,
		VolumeSettings: volumeSettings, InstanceSettings: instanceSettings,
		Notes: []string{"region " + p.opts.Region},
	}
	if !p.opts.Cloud.NoEBS {
		c.SnapshotBlocks = &providers.BlockLimits{Size: blockSize, PerSecond: 1000, MaxPending: 100, MaxBlocks: c.MaxVolume / blockSize}
	}
	if p.opts.Writer == "" {
		c.Notes = append(c.Notes, "no hydrator instance is named (writer=i-…): only tests that need no volume written can be launched")
	}
	return c, nil
}

// catalogue reads zones and types, or has them.
func (p *Provider) catalogue(ctx context.Context) (known, error) {
	p.mu.Lock()
	k := p.known
	p.mu.Unlock()
	now := p.opts.Clock.Now()
	if err := ctx.Err(); err != nil {
		return known{}, err
	}
	if !k.at.IsZero() && now.Sub(k.at) < fresh {
		return k, nil
	}
	k = known{at: now}
	var err error
	if k.zones, err = p.zones(ctx); err != nil {
		return known{}, err
	}
	if !p.opts.Cloud.NoTypes {
		if k.types, err = p.readTypes(ctx); err != nil {
			return known{}, err
		}
	}
	p.mu.Lock()
	p.known = k
	p.mu.Unlock()
	return k, nil
}

// zones are those that can be used, the writer's first.
func (p *Provider) zones(ctx context.Context) ([]string, error) {
	out, err := p.ec2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{Filters: []types.Filter{filter("state", "available")}})
	if err != nil {
		return nil, wrap("list zones", err)
	}
	var zones []string
	for _, z := range out.AvailabilityZones {
		zones = append(zones, aws.ToString(z.ZoneName))
	}
	slices.Sort(zones)
	if p.opts.Writer == "" {
		return zones, nil
	}
	w, err := p.describe(ctx, p.opts.Writer)
	if err != nil {
		return nil, fmt.Errorf("find the hydrator's instance: %w; name it with writer=i-…", err)
	}
	if w.Placement != nil {
		if at := slices.Index(zones, aws.ToString(w.Placement.AvailabilityZone)); at > 0 {
			z := zones[at]
			zones = slices.Insert(slices.Delete(zones, at, at+1), 0, z)
		}
	}
	return zones, nil
}

func (p *Provider) readTypes(ctx context.Context) ([]typeInfo, error) {
	var list []typeInfo
	pages := ec2.NewDescribeInstanceTypesPaginator(p.ec2, &ec2.DescribeInstanceTypesInput{MaxResults: aws.Int32(100),
		Filters: []types.Filter{filter("current-generation", "true"), filter("bare-metal", "false")}})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, wrap("list instance types", err)
		}
		for i := range out.InstanceTypes {
			if t, ok := p.typeOf(&out.InstanceTypes[i]); ok {
				list = append(list, t)
			}
		}
	}
	slices.SortFunc(list, func(a, b typeInfo) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// typeOf is false for what no server of a migration can be: other processors, and types with nothing to start from.
func (p *Provider) typeOf(t *types.InstanceTypeInfo) (typeInfo, bool) {
	if t.ProcessorInfo == nil || t.VCpuInfo == nil || t.MemoryInfo == nil {
		return typeInfo{}, false
	}
	x := typeInfo{InstanceType: providers.InstanceType{ID: string(t.InstanceType), CPUs: int(aws.ToInt32(t.VCpuInfo.DefaultVCpus)), Memory: aws.ToInt64(t.MemoryInfo.SizeInMiB) << 20,
		Buses: []providers.Bus{providers.NVMe}, Platform: providers.PlatformEC2Nitro}, disks: 27, nics: 2, ena: true}
	for _, a := range t.ProcessorInfo.SupportedArchitectures {
		switch a {
		case types.ArchitectureTypeX8664:
			x.Architectures = append(x.Architectures, providers.AMD64)
		case types.ArchitectureTypeArm64:
			x.Architectures = append(x.Architectures, providers.ARM64)
		}
	}
	for _, b := range t.SupportedBootModes {
		switch b {
		case types.BootModeTypeLegacyBios:
			x.Firmware = append(x.Firmware, providers.BIOS)
		case types.BootModeTypeUefi:
			x.Firmware = append(x.Firmware, providers.UEFI)
		}
	}
	if p.opts.Cloud.NoBootMode || len(t.SupportedBootModes) == 0 {
		x.Firmware = []providers.Firmware{providers.BIOS}
	}
	switch {
	case t.Hypervisor == types.InstanceTypeHypervisorXen:
		x.Buses, x.Platform, x.ena = []providers.Bus{providers.XenBlk}, providers.PlatformEC2Xen, false
	case p.opts.Cloud.NoNVMe:
		x.Buses, x.Platform = []providers.Bus{providers.VirtioBlk}, providers.PlatformKVM
	}
	if e := t.EbsInfo; e != nil && e.MaximumEbsAttachments != nil {
		x.disks = int(*e.MaximumEbsAttachments)
	}
	if n := t.NetworkInfo; n != nil {
		x.nics = int(aws.ToInt32(n.MaximumNetworkInterfaces))
	}
	return x, len(x.Architectures) > 0 && len(x.Firmware) > 0 && x.CPUs > 0 && x.Memory > 0
}

// InstanceTypes implements providers.Catalogue. Types on Xen are left out where there are others: nobody should get one by being small. InstanceType has them.
func (p *Provider) InstanceTypes(ctx context.Context) ([]providers.InstanceType, error) {
	k, err := p.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]providers.InstanceType, 0, len(k.types))
	for i := range k.types {
		if t := k.types[i].InstanceType; t.Platform != providers.PlatformEC2Xen || p.opts.Cloud.NoNVMe {
			list = append(list, t)
		}
	}
	return list, nil
}

// InstanceType implements providers.TypeByName.
func (p *Provider) InstanceType(id string) (providers.InstanceType, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t, err := p.instanceType(ctx, id)
	return t.InstanceType, err
}

// instanceType finds one by its name.
func (p *Provider) instanceType(ctx context.Context, name string) (typeInfo, error) {
	k, err := p.catalogue(ctx)
	if err != nil {
		return typeInfo{}, err
	}
	if at := slices.IndexFunc(k.types, func(t typeInfo) bool { return t.ID == name }); at >= 0 {
		return k.types[at], nil
	}
	if p.opts.Cloud.NoTypes {
		return typeInfo{InstanceType: providers.InstanceType{ID: name, CPUs: 1, Memory: 1 << 30, Architectures: []providers.Architecture{providers.AMD64},
			Firmware: []providers.Firmware{providers.BIOS}, Buses: []providers.Bus{providers.VirtioBlk}, Platform: providers.PlatformKVM}, disks: 27, nics: 2, ena: true}, nil
	}
	return typeInfo{}, fmt.Errorf("%w: there is no current instance type of that name in %s", missing("instance type", name), p.opts.Region)
}

// isolatedSuffix makes of a subnet's id the network on which nothing gets out: the same subnet with a security group that has no egress.
const isolatedSuffix = "/isolated"

// tagIsolated is what the operator puts onto a subnet that leads nowhere.
const tagIsolated = providers.ReservedTags + "isolated"

// subnets are all of the account's in the region, those of the first zone first.
func (p *Provider) subnets(ctx context.Context) ([]types.Subnet, error) {
	k, err := p.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	var list []types.Subnet
	pages := ec2.NewDescribeSubnetsPaginator(p.ec2, &ec2.DescribeSubnetsInput{})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, wrap("list networks", err)
		}
		list = append(list, out.Subnets...)
	}
	slices.SortFunc(list, func(a, b types.Subnet) int {
		return cmp.Or(slices.Index(k.zones, aws.ToString(a.AvailabilityZone))-slices.Index(k.zones, aws.ToString(b.AvailabilityZone)), strings.Compare(aws.ToString(a.SubnetId), aws.ToString(b.SubnetId)))
	})
	return list, nil
}

// Networks implements providers.Catalogue: each subnet, and each once more as an isolated network.
func (p *Provider) Networks(ctx context.Context) ([]providers.Network, error) {
	subnets, err := p.subnets(ctx)
	if err != nil {
		return nil, err
	}
	var plain, isolated []providers.Network
	for _, s := range subnets {
		id := aws.ToString(s.SubnetId)
		_, name, _, all := read(s.Tags)
		n := providers.Network{ID: id, Name: cmp.Or(name, aws.ToString(s.CidrBlock)), Zone: aws.ToString(s.AvailabilityZone), Isolated: all[tagIsolated] == "true",
			Help: "subnet " + aws.ToString(s.CidrBlock) + " of " + aws.ToString(s.VpcId)}
		plain = append(plain, n)
		if !n.Isolated {
			n.ID, n.Name, n.Isolated = id+isolatedSuffix, n.Name+" (isolated)", true
			n.Help += ", with the security group " + isolatedGroup + ", from which nothing gets out"
			isolated = append(isolated, n)
		}
	}
	return append(plain, isolated...), nil
}
