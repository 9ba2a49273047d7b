package aws

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
)

// disk is what the settings say of a volume.
type disk struct {
	kind             types.VolumeType
	iops, throughput *int32
	key              *string
	encrypted        *bool
}

func diskOf(settings map[string]string) (disk, error) {
	d := disk{kind: types.VolumeTypeGp3}
	if t := settings["volume_type"]; t != "" {
		d.kind = types.VolumeType(t)
	}
	for _, x := range []struct {
		name string
		into **int32
	}{{"iops", &d.iops}, {"throughput", &d.throughput}} {
		if v := settings[x.name]; v != "" {
			n, err := strconv.ParseInt(v, 10, 32)
			if err != nil || n <= 0 {
				return d, fmt.Errorf("%w: setting %s=%.40q is no number", providers.ErrInvalid, x.name, v)
			}
			*x.into = aws.Int32(int32(n))
		}
	}
	if k := settings["kms_key"]; k != "" {
		d.key, d.encrypted = aws.String(k), aws.Bool(true)
	}
	if settings["encrypted"] == "true" {
		d.encrypted = aws.Bool(true)
	}
	return d, nil
}

// CreateVolume implements providers.Volumes. EC2's client token is the spec's.
func (p *Provider) CreateVolume(ctx context.Context, spec providers.VolumeSpec) (providers.Volume, error) {
	const what = "create volume"
	c, err := p.Capabilities(ctx)
	if err != nil {
		return providers.Volume{}, err
	}
	if err := spec.Check(&c); err != nil {
		return providers.Volume{}, err
	}
	d, err := diskOf(spec.Settings)
	if err != nil {
		return providers.Volume{}, fmt.Errorf("%s: %w", what, err)
	}
	in := &ec2.CreateVolumeInput{AvailabilityZone: aws.String(spec.Zone), VolumeType: d.kind, Iops: d.iops, Throughput: d.throughput, KmsKeyId: d.key, Encrypted: d.encrypted,
		ClientToken: aws.String(spec.Token), TagSpecifications: []types.TagSpecification{tagged(types.ResourceTypeVolume, tags(&spec.Meta, fingerprint(spec)))}}
	if spec.Zone == "" {
		in.AvailabilityZone = aws.String(c.Zones[0])
	}
	if spec.From.Kind == providers.FromSnapshot {
		s, err := p.Snapshot(ctx, spec.From.ID)
		switch {
		case err != nil:
			return providers.Volume{}, fmt.Errorf("%s: %w", what, err)
		case spec.Size != 0 && spec.Size < s.Size:
			return providers.Volume{}, fmt.Errorf("%s: %w: %d bytes are less than the %d of its source", what, providers.ErrInvalid, spec.Size, s.Size)
		case s.State != providers.StateAvailable:
			return providers.Volume{}, fmt.Errorf("%s: %w: snapshot %s is %s", what, providers.ErrConflict, s.ID, s.State)
		}
		in.SnapshotId = aws.String(s.ID)
	}
	if spec.Size != 0 {
		size, err := c.RoundSize(spec.Size)
		if err != nil {
			return providers.Volume{}, fmt.Errorf("%s: %w", what, err)
		}
		in.Size = aws.Int32(int32(size / gib))
	}
	out, err := p.ec2.CreateVolume(ctx, in)
	if err != nil {
		return providers.Volume{}, wrap(what, gone(err))
	}
	return p.seenVolume(ctx, aws.ToString(out.VolumeId))
}

// gone turns "not found" of a create that names nothing into what it is: the token made a thing which was deleted.
func gone(err error) error {
	if code(err) == "InvalidVolume.NotFound" {
		return fmt.Errorf("%w: the token made a volume that was deleted; use a new one", providers.ErrConflict)
	}
	return err
}

// seenVolume waits until reads know a new volume.
func (p *Provider) seenVolume(ctx context.Context, id string) (providers.Volume, error) {
	v, found, err := settled(ctx, p, func() (providers.Volume, bool, error) {
		v, err := p.readVolume(ctx, id)
		return v, err == nil, err
	})
	if err == nil && !found {
		err = fmt.Errorf("create volume: %w: %s was made and is not shown yet", providers.ErrTryAgain, id)
	}
	return v, err
}

// Volume implements providers.Volumes.
func (p *Provider) Volume(ctx context.Context, id string) (providers.Volume, error) {
	return p.readVolume(ctx, id)
}

func (p *Provider) describeVolume(ctx context.Context, id string) (*types.Volume, error) {
	if !is("vol", id) {
		return nil, missing("volume", id)
	}
	out, err := p.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	if err != nil {
		return nil, wrap("read volume "+id, err)
	}
	if len(out.Volumes) != 1 || out.Volumes[0].State == types.VolumeStateDeleted {
		return nil, missing("volume", id)
	}
	return &out.Volumes[0], nil
}

func (p *Provider) readVolume(ctx context.Context, id string) (providers.Volume, error) {
	v, err := p.describeVolume(ctx, id)
	if err != nil {
		return providers.Volume{}, err
	}
	return volumeOf(v), nil
}

func volumeOf(v *types.Volume) providers.Volume {
	out := providers.Volume{ID: aws.ToString(v.VolumeId), Size: int64(aws.ToInt32(v.Size)) * gib, Zone: aws.ToString(v.AvailabilityZone), Created: aws.ToTime(v.CreateTime)}
	var all map[string]string
	out.Owner, out.Name, out.Tags, all = read(v.Tags)
	switch v.State {
	case types.VolumeStateCreating:
		out.State = providers.StateCreating
	case types.VolumeStateAvailable, types.VolumeStateInUse:
		out.State = providers.StateAvailable
	case types.VolumeStateDeleting, types.VolumeStateDeleted:
		out.State = providers.StateDeleting
	default:
		out.State, out.Reason = providers.StateFailed, "EBS says "+string(v.State)+": see that its KMS key exists and is enabled, and that this role may use it"
	}
	for _, a := range v.Attachments {
		i := aws.ToString(a.InstanceId)
		if all[tagDisk] != "" {
			out.Instance = i
			continue
		}
		out.Attachment = &providers.Attachment{Writer: i, Kind: providers.WriterDevice, Ready: a.State == types.VolumeAttachmentStateAttached, Serial: out.ID}
	}
	return out
}

// devices are the names that volumes are attached under, for a writer and for the disks of a machine but the first: "Device names for volumes" in the user
// guide. On Nitro the name says nothing inside: disks are found by their serial number.
var devices = slices.Concat(names("/dev/sd", "fghijklmnopqrstuvwxyzbcde"), names("/dev/xvdb", alphabet), names("/dev/xvdc", alphabet), names("/dev/xvdd", alphabet), names("/dev/xvda", alphabet))

const alphabet = "abcdefghijklmnopqrstuvwxyz"

func names(prefix, letters string) (list []string) {
	for _, l := range letters {
		list = append(list, prefix+string(l))
	}
	return list
}

// AttachVolume implements providers.Volumes. It has no client token, and needs none: a volume is attached once.
func (p *Provider) AttachVolume(ctx context.Context, id, writer string) error {
	what := "attach volume " + id
	v, err := p.readVolume(ctx, id)
	switch {
	case err != nil:
		return err
	case writer == "":
		return fmt.Errorf("%s: %w: volumes are written by an instance here; name it with writer=i-…", what, providers.ErrInvalid)
	case v.Attachment != nil && v.Attachment.Writer == writer:
		return nil
	case v.Attachment != nil || v.Instance != "" || v.State != providers.StateAvailable:
		return fmt.Errorf("%s: %w: it is %s, instance %q, attachment %+v", what, providers.ErrConflict, v.State, v.Instance, v.Attachment)
	}
	i, err := p.describe(ctx, writer)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	taken := map[string]bool{aws.ToString(i.RootDeviceName): true}
	for _, m := range i.BlockDeviceMappings {
		taken[aws.ToString(m.DeviceName)] = true
	}
	var last error
	for _, name := range devices {
		if taken[name] {
			continue
		}
		_, err := p.ec2.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: aws.String(id), InstanceId: aws.String(writer), Device: aws.String(name)})
		if err == nil {
			return nil
		}
		last = wrap(what, err)
		switch code(err) {
		case "InvalidParameterValue": // another call took the name meanwhile, or it is one that this type does not take
			continue
		case "VolumeInUse":
			// Our own, whose answer was lost? Reads may not show it yet.
			v, found, rerr := settled(ctx, p, func() (providers.Volume, bool, error) {
				v, err := p.readVolume(ctx, id)
				return v, v.Attachment != nil || v.Instance != "", err
			})
			if rerr == nil && found && v.Attachment != nil && v.Attachment.Writer == writer {
				return nil
			}
		case "IncorrectState": // the writer starts or stops just now
		}
		return last
	}
	if last == nil {
		last = fmt.Errorf("%s: %w: instance %s has no device name left; it has %d volumes", what, providers.ErrQuota, writer, len(i.BlockDeviceMappings))
	}
	return last
}

// DetachVolume implements providers.Volumes.
func (p *Provider) DetachVolume(ctx context.Context, id string) error {
	if !is("vol", id) {
		return ctx.Err()
	}
	out, err := p.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	if err != nil {
		return absent(wrap("detach volume "+id, err))
	}
	for i := range out.Volumes {
		v := volumeOf(&out.Volumes[i])
		if v.Attachment == nil || slices.ContainsFunc(out.Volumes[i].Attachments, func(a types.VolumeAttachment) bool { return a.State == types.VolumeAttachmentStateDetaching }) {
			continue
		}
		_, err := p.ec2.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: aws.String(id), InstanceId: aws.String(v.Attachment.Writer)})
		switch code(err) {
		case "IncorrectState", "InvalidAttachment.NotFound": // it is detached, or being detached
			return nil
		}
		if err != nil {
			return absent(wrap("detach volume "+id, err))
		}
	}
	return nil
}

// absent makes nothing of what is gone.
func absent(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

// DeleteVolume implements providers.Volumes.
func (p *Provider) DeleteVolume(ctx context.Context, id string) error {
	if !is("vol", id) {
		return ctx.Err()
	}
	_, err := p.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: aws.String(id)})
	return absent(wrap("delete volume "+id, err))
}
