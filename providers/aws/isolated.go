package aws

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
)

// isolatedGroup is the name of the security group of machines that are tested, one in each VPC. It is nobody's orphan: it stays, and costs nothing. Whoever wants
// to reach test machines puts rules for that into it.
const isolatedGroup = "openmigrate-isolated"

// isolated returns the VPC's group for tests, which it makes if need be. A new group lets everything out until its rule is revoked, so that is made sure of
// each time, before anything uses the group. Rules that let something certain out are the operator's, and stay.
func (p *Provider) isolated(ctx context.Context, vpc string) (string, error) {
	const what = "prepare the isolated security group"
	find := func() (*types.SecurityGroup, bool, error) {
		out, err := p.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{filter("group-name", isolatedGroup), filter("vpc-id", vpc)}})
		if err != nil || len(out.SecurityGroups) == 0 {
			return nil, false, err
		}
		return &out.SecurityGroups[0], true, nil
	}
	g, found, err := find()
	if err != nil {
		return "", wrap(what, err)
	}
	if !found {
		_, err := p.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String(isolatedGroup), VpcId: aws.String(vpc),
			Description:       aws.String("OpenMigrate: machines that are tested; nothing gets out"),
			TagSpecifications: []types.TagSpecification{tagged(types.ResourceTypeSecurityGroup, []types.Tag{{Key: aws.String(tagIsolated), Value: aws.String("true")}})}})
		if err != nil && code(err) != "InvalidGroup.Duplicate" {
			return "", wrap(what, err)
		}
		if g, found, err = settled(ctx, p, find); err != nil {
			return "", wrap(what, err)
		}
		if !found {
			return "", fmt.Errorf("%s: %w: it was made and is not shown yet", what, providers.ErrTryAgain)
		}
	}
	var open []types.IpPermission
	for _, r := range g.IpPermissionsEgress {
		if all := everywhere(r); all != nil {
			open = append(open, *all)
		}
	}
	if len(open) > 0 {
		_, err := p.ec2.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: g.GroupId, IpPermissions: open})
		if err != nil && code(err) != "InvalidPermission.NotFound" {
			return "", wrap(what, err)
		}
	}
	return aws.ToString(g.GroupId), nil
}

// everywhere is the part of a rule that leads to all addresses; nil if none of it does.
func everywhere(r types.IpPermission) *types.IpPermission {
	all := types.IpPermission{IpProtocol: r.IpProtocol, FromPort: r.FromPort, ToPort: r.ToPort}
	for _, x := range r.IpRanges {
		if aws.ToString(x.CidrIp) == "0.0.0.0/0" {
			all.IpRanges = append(all.IpRanges, types.IpRange{CidrIp: x.CidrIp})
		}
	}
	for _, x := range r.Ipv6Ranges {
		if aws.ToString(x.CidrIpv6) == "::/0" {
			all.Ipv6Ranges = append(all.Ipv6Ranges, types.Ipv6Range{CidrIpv6: x.CidrIpv6})
		}
	}
	if len(all.IpRanges)+len(all.Ipv6Ranges) == 0 {
		return nil
	}
	return &all
}
