package aws

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
)

// List implements providers.Provider: instances, images, volumes and snapshots with the system's tag, page by page.
func (p *Provider) List(ctx context.Context, system string) ([]providers.Resource, error) {
	var list []providers.Resource
	mine := []types.Filter{filter("tag:"+tagSystem, literal.Replace(system))}
	add := func(kind providers.Kind, id *string, tags []types.Tag, state providers.State, created time.Time) {
		owner, name, _, _ := read(tags)
		if owner.System == system { // filters have wildcards
			list = append(list, providers.Resource{Kind: kind, ID: aws.ToString(id), Name: name, Owner: owner, State: state, Created: created})
		}
	}
	instances := ec2.NewDescribeInstancesPaginator(p.ec2, &ec2.DescribeInstancesInput{Filters: mine, MaxResults: aws.Int32(500)})
	for instances.HasMorePages() {
		out, err := instances.NextPage(ctx)
		if err != nil {
			return nil, wrap("list instances", err)
		}
		for _, r := range out.Reservations {
			for i := range r.Instances {
				x := &r.Instances[i]
				if x.State != nil && x.State.Name != types.InstanceStateNameTerminated {
					add(providers.KindInstance, x.InstanceId, x.Tags, states[x.State.Name], aws.ToTime(x.LaunchTime))
				}
			}
		}
	}
	images := ec2.NewDescribeImagesPaginator(p.ec2, &ec2.DescribeImagesInput{Filters: mine, Owners: []string{"self"}, MaxResults: aws.Int32(500)})
	for images.HasMorePages() {
		out, err := images.NextPage(ctx)
		if err != nil {
			return nil, wrap("list images", err)
		}
		for i := range out.Images {
			x := &out.Images[i]
			created, _ := time.Parse(time.RFC3339, aws.ToString(x.CreationDate)) // a clock of its own would be no better
			add(providers.KindImage, x.ImageId, x.Tags, providers.StateAvailable, created)
		}
	}
	volumes := ec2.NewDescribeVolumesPaginator(p.ec2, &ec2.DescribeVolumesInput{Filters: mine, MaxResults: aws.Int32(500)})
	for volumes.HasMorePages() {
		out, err := volumes.NextPage(ctx)
		if err != nil {
			return nil, wrap("list volumes", err)
		}
		for i := range out.Volumes {
			x := &out.Volumes[i]
			if x.State != types.VolumeStateDeleted {
				add(providers.KindVolume, x.VolumeId, x.Tags, volumeOf(x).State, aws.ToTime(x.CreateTime))
			}
		}
	}
	snapshots := ec2.NewDescribeSnapshotsPaginator(p.ec2, &ec2.DescribeSnapshotsInput{Filters: mine, OwnerIds: []string{"self"}, MaxResults: aws.Int32(500)})
	for snapshots.HasMorePages() {
		out, err := snapshots.NextPage(ctx)
		if err != nil {
			return nil, wrap("list snapshots", err)
		}
		for i := range out.Snapshots {
			x := &out.Snapshots[i]
			add(providers.KindSnapshot, x.SnapshotId, x.Tags, snapshotOf(x).State, aws.ToTime(x.StartTime))
		}
	}
	return slices.Clip(list), nil
}
