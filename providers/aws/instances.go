package aws

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
)

// CreateInstance implements providers.Instances. Its steps, each of which a repeated call with the token finds done:
//
//  1. an instance with that client token is the answer; its image goes
//  2. an image of the disks' snapshots, whose name is the token
//  3. RunInstances with the client token
//  4. once reads know the instance the image goes
//
// A refusal removes the image again; what a crash leaves of it has the owner's tag.
func (p *Provider) CreateInstance(ctx context.Context, spec providers.InstanceSpec) (providers.Instance, error) {
	const what = "create instance"
	c, err := p.Capabilities(ctx)
	if err != nil {
		return providers.Instance{}, err
	}
	if err := spec.Check(&c); err != nil {
		return providers.Instance{}, err
	}
	print := fingerprint(spec)
	if i, err := p.byToken(ctx, spec.Token); err != nil || i != nil {
		if err != nil {
			return providers.Instance{}, wrap(what, err)
		}
		return p.made(ctx, &spec, i, print)
	}
	in, images, err := p.plan(ctx, &spec, print)
	if err != nil {
		return providers.Instance{}, err
	}
	image, err := p.image(ctx, &spec, images.typ, print, images.mappings)
	if err != nil {
		return providers.Instance{}, p.refused(ctx, spec.Token, fmt.Errorf("%s: %w", what, err))
	}
	in.ImageId = aws.String(image)
	if _, err = p.ec2.RunInstances(ctx, in); err != nil && code(err) != "IdempotentParameterMismatch" {
		return providers.Instance{}, p.refused(ctx, spec.Token, wrap(what, err))
	}
	mismatch := err
	// A mismatch is mostly our own: an earlier create made the instance, and removed the image before reads knew the instance.
	i, found, err := settled(ctx, p, func() (*types.Instance, bool, error) {
		i, err := p.byToken(ctx, spec.Token)
		return i, i != nil, err
	})
	switch {
	case err != nil:
		return providers.Instance{}, wrap(what, err)
	case found:
		return p.made(ctx, &spec, i, print)
	case mismatch != nil:
		return providers.Instance{}, p.refused(ctx, spec.Token, wrap(what, mismatch))
	}
	return providers.Instance{}, fmt.Errorf("%s: %w: it was made and is not shown yet", what, providers.ErrTryAgain)
}

// made is the end of a create: the instance is there, and its image goes.
func (p *Provider) made(ctx context.Context, spec *providers.InstanceSpec, i *types.Instance, print string) (providers.Instance, error) {
	if _, _, _, all := read(i.Tags); all[tagSpec] != print {
		return providers.Instance{}, fmt.Errorf("create instance: %w: the token was used for another request", providers.ErrConflict)
	}
	if err := p.dropImage(ctx, spec.Token); err != nil {
		return providers.Instance{}, fmt.Errorf("create instance: %w", err)
	}
	return p.instanceOf(i), nil
}

// refused removes the image of a create that can never succeed, so that it has made nothing. One that may is found again.
func (p *Provider) refused(ctx context.Context, token string, err error) error {
	if errors.Is(err, providers.ErrTryAgain) || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, p.dropImage(ctx, token))
}

// pictures is what an image is made of.
type pictures struct {
	typ      *typeInfo
	mappings []types.BlockDeviceMapping
}

// plan checks everything that can be before anything is made, and words the call.
func (p *Provider) plan(ctx context.Context, spec *providers.InstanceSpec, print string) (*ec2.RunInstancesInput, *pictures, error) {
	fail := func(err error) (*ec2.RunInstancesInput, *pictures, error) {
		return nil, nil, fmt.Errorf("create instance: %w", err)
	}
	t, err := p.instanceType(ctx, spec.Type)
	if err != nil {
		return fail(err)
	}
	if err := spec.CheckType(t.InstanceType); err != nil {
		return nil, nil, err
	}
	if len(spec.Disks) > t.disks || len(spec.NICs) > t.nics {
		return fail(fmt.Errorf("%w: type %s takes up to %d disks and %d network cards, not %d and %d", providers.ErrInvalid, t.ID, t.disks, t.nics, len(spec.Disks), len(spec.NICs)))
	}
	nics, zone, err := p.cards(ctx, spec.NICs)
	if err != nil {
		return fail(err)
	}
	images := &pictures{typ: &t}
	if images.mappings, err = p.mappings(ctx, spec); err != nil {
		return fail(err)
	}
	list := tags(&spec.Meta, print, tagBoot, strconv.Itoa(spec.Boot))
	in := &ec2.RunInstancesInput{InstanceType: types.InstanceType(spec.Type), MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ClientToken: aws.String(spec.Token), NetworkInterfaces: nics,
		TagSpecifications: []types.TagSpecification{tagged(types.ResourceTypeInstance, list), tagged(types.ResourceTypeVolume, tags(&spec.Meta, print, tagDisk, spec.Token))}}
	if len(nics) > 0 {
		in.TagSpecifications = append(in.TagSpecifications, tagged(types.ResourceTypeNetworkInterface, tags(&spec.Meta, print)))
	}
	p.settings(in, spec.Settings, zone)
	return in, images, nil
}

// settings are what templates may set of an instance.
func (p *Provider) settings(in *ec2.RunInstancesInput, s map[string]string, zone string) {
	text := func(name string) *string {
		if s[name] == "" {
			return nil
		}
		return aws.String(s[name])
	}
	in.KeyName = text("key_name")
	if v := s["instance_profile"]; strings.HasPrefix(v, "arn:") {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Arn: aws.String(v)}
	} else if v != "" {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String(v)}
	}
	if !p.opts.Cloud.NoIMDS {
		m := &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensStateRequired}
		switch s["imds"] {
		case "optional":
			m.HttpTokens = types.HttpTokensStateOptional
		case "disabled":
			m = &types.InstanceMetadataOptionsRequest{HttpEndpoint: types.InstanceMetadataEndpointStateDisabled}
		}
		in.MetadataOptions = m
	}
	if s["termination_protection"] == "true" {
		in.DisableApiTermination = aws.Bool(true)
	}
	if l := text("license_configuration"); l != nil {
		in.LicenseSpecifications = []types.LicenseConfigurationRequest{{LicenseConfigurationArn: l}}
	}
	if group := text("placement_group"); group != nil || s["tenancy"] != "" {
		in.Placement = &types.Placement{GroupName: group, Tenancy: types.Tenancy(s["tenancy"])}
		if zone != "" {
			in.Placement.AvailabilityZone = aws.String(zone)
		}
	}
}

// mappings are the disks: each a volume that EC2 makes of a snapshot.
func (p *Provider) mappings(ctx context.Context, spec *providers.InstanceSpec) ([]types.BlockDeviceMapping, error) {
	d, err := diskOf(spec.Settings)
	if err != nil {
		return nil, err
	}
	var list []types.BlockDeviceMapping
	for n, x := range spec.Disks {
		s, err := p.Snapshot(ctx, x.From.ID)
		if err != nil {
			return nil, err
		}
		if s.State != providers.StateAvailable {
			return nil, fmt.Errorf("%w: snapshot %s is %s", providers.ErrConflict, s.ID, s.State)
		}
		list = append(list, types.BlockDeviceMapping{DeviceName: aws.String(deviceOf(n, spec.Boot)), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(s.ID), VolumeType: d.kind, Iops: d.iops,
			Throughput: d.throughput, DeleteOnTermination: aws.Bool(x.Delete)}})
	}
	// An image's mapping takes no KMS key (EC2/RegisterImage); those of RunInstances would, over the image's. Snapshots of volumes with a key have it.
	return list, nil
}

// cards are the network cards, and the zone of their subnets.
func (p *Provider) cards(ctx context.Context, nics []providers.NIC) (list []types.InstanceNetworkInterfaceSpecification, zone string, err error) {
	if len(nics) == 0 {
		return nil, "", nil
	}
	subnets, err := p.subnets(ctx)
	if err != nil {
		return nil, "", err
	}
	for n, nic := range nics {
		id, isolated := strings.CutSuffix(nic.Network, isolatedSuffix)
		at := slices.IndexFunc(subnets, func(s types.Subnet) bool { return aws.ToString(s.SubnetId) == id })
		if at < 0 {
			return nil, "", missing("network", nic.Network)
		}
		s := &subnets[at]
		if z := aws.ToString(s.AvailabilityZone); zone != "" && zone != z {
			return nil, "", fmt.Errorf("%w: network cards in zones %s and %s; want one", providers.ErrInvalid, zone, z)
		}
		zone = aws.ToString(s.AvailabilityZone)
		card := types.InstanceNetworkInterfaceSpecification{DeviceIndex: aws.Int32(int32(n)), SubnetId: aws.String(id), Groups: nic.Groups, DeleteOnTermination: aws.Bool(true)}
		if nic.Address.IsValid() {
			card.PrivateIpAddress = aws.String(nic.Address.String())
		}
		if isolated {
			if len(nic.Groups) > 0 {
				return nil, "", fmt.Errorf("%w: network %s has its own security group; leave out %q", providers.ErrInvalid, nic.Network, nic.Groups)
			}
			group, err := p.isolated(ctx, aws.ToString(s.VpcId))
			if err != nil {
				return nil, "", err
			}
			card.Groups = []string{group}
		}
		list = append(list, card)
	}
	return list, zone, nil
}

// byToken finds the instance that a token made; nil if there is none, or none that reads know.
func (p *Provider) byToken(ctx context.Context, token string) (*types.Instance, error) {
	out, err := p.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{filter("client-token", token)}})
	if err != nil {
		return nil, err
	}
	for _, r := range out.Reservations {
		for i := range r.Instances {
			return &r.Instances[i], nil
		}
	}
	return nil, nil
}

func (p *Provider) describe(ctx context.Context, id string) (*types.Instance, error) {
	if !is("i", id) {
		return nil, missing("instance", id)
	}
	out, err := p.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return nil, wrap("read instance "+id, err)
	}
	for _, r := range out.Reservations {
		for i := range r.Instances {
			return &r.Instances[i], nil
		}
	}
	return nil, missing("instance", id)
}

// Instance implements providers.Instances.
func (p *Provider) Instance(ctx context.Context, id string) (providers.Instance, error) {
	i, err := p.describe(ctx, id)
	if err != nil {
		return providers.Instance{}, err
	}
	return p.instanceOf(i), nil
}

var states = map[types.InstanceStateName]providers.State{
	types.InstanceStateNamePending: providers.StateCreating, types.InstanceStateNameRunning: providers.StateRunning, types.InstanceStateNameStopping: providers.StateStopping,
	types.InstanceStateNameStopped: providers.StateStopped, types.InstanceStateNameShuttingDown: providers.StateTerminating, types.InstanceStateNameTerminated: providers.StateTerminated,
}

func (p *Provider) instanceOf(i *types.Instance) providers.Instance {
	out := providers.Instance{ID: aws.ToString(i.InstanceId), Type: string(i.InstanceType), Created: aws.ToTime(i.LaunchTime), Firmware: providers.BIOS, Bus: providers.NVMe}
	var all map[string]string
	out.Owner, out.Name, out.Tags, all = read(i.Tags)
	if i.State != nil {
		out.State = states[i.State.Name]
	}
	if i.CurrentInstanceBootMode == types.InstanceBootModeValuesUefi || i.CurrentInstanceBootMode == "" && i.BootMode == types.BootModeValuesUefi {
		out.Firmware = providers.UEFI
	}
	switch {
	case i.Hypervisor == types.HypervisorTypeXen && !p.nitro(out.Type):
		out.Bus = providers.XenBlk
	case p.opts.Cloud.NoNVMe:
		out.Bus = providers.VirtioBlk
	}
	if r := i.StateReason; r != nil && out.State != providers.StateRunning && out.State != providers.StateCreating {
		out.Reason = oneLine(aws.ToString(r.Message))
		if strings.Contains(aws.ToString(r.Code)+out.Reason, "KMSKey") {
			out.Reason += "; see that the KMS key of its disks is enabled, and that this role may use it"
		}
	}
	boot, _ := strconv.Atoi(all[tagBoot]) // absent: the first
	out.Disks = disksOf(i, boot)
	for _, n := range i.NetworkInterfaces {
		nic := providers.InstanceNIC{Network: aws.ToString(n.SubnetId), MAC: aws.ToString(n.MacAddress)}
		if slices.ContainsFunc(n.Groups, func(g types.GroupIdentifier) bool { return aws.ToString(g.GroupName) == isolatedGroup }) {
			nic.Network += isolatedSuffix
		}
		for _, a := range n.PrivateIpAddresses {
			if addr, err := netip.ParseAddr(aws.ToString(a.PrivateIpAddress)); err == nil {
				nic.Addresses = append(nic.Addresses, addr)
			}
		}
		out.NICs = append(out.NICs, nic)
	}
	return out
}

// nitro reports whether a type is known to run on Nitro. EC2 says "xen" of many that do (EC2/Instance, Hypervisor).
func (p *Provider) nitro(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.IndexFunc(p.known.types, func(t typeInfo) bool { return t.ID == name })
	return at >= 0 && p.known.types[at].Platform == providers.PlatformEC2Nitro
}

// disksOf puts an instance's disks into the order of its spec, which their names keep. Volumes that a writer has attached come after them.
func disksOf(i *types.Instance, boot int) []providers.InstanceDisk {
	type named struct {
		at int
		providers.InstanceDisk
	}
	var list []named
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs == nil {
			continue
		}
		name := aws.ToString(m.DeviceName)
		d := named{boot, providers.InstanceDisk{Volume: aws.ToString(m.Ebs.VolumeId), Delete: aws.ToBool(m.Ebs.DeleteOnTermination), Boot: name == aws.ToString(i.RootDeviceName)}}
		if !d.Boot {
			if d.at = slices.Index(devices, name); d.at < 0 {
				d.at = len(devices) // none of our names
			} else if d.at >= boot {
				d.at++
			}
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b named) int { return a.at - b.at })
	var out []providers.InstanceDisk
	for _, d := range list {
		out = append(out, d.InstanceDisk)
	}
	return out
}
