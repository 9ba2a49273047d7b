package aws

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
)

// Devices that a machine's boot disk and the others are mapped to. The order of the others is that of the names.
const rootDevice = "/dev/sda1"

// deviceOf is the name of disk n when disk boot is the one that the firmware starts from.
func deviceOf(n, boot int) string {
	if n == boot {
		return rootDevice
	}
	if n > boot {
		n--
	}
	return devices[n]
}

// imageName is unique in the account and region, and so the token of the one call that has none.
func imageName(token string) string { return "openmigrate-" + token }

// image returns the image of an instance's disks, which it registers unless an earlier create with the token did. An image that is not ready is ErrTryAgain.
func (p *Provider) image(ctx context.Context, spec *providers.InstanceSpec, t *typeInfo, print string, mappings []types.BlockDeviceMapping) (string, error) {
	const what = "register image"
	in := &ec2.RegisterImageInput{Name: aws.String(imageName(spec.Token)), Description: aws.String("OpenMigrate " + spec.Owner.Launch), Architecture: types.ArchitectureValuesX8664,
		RootDeviceName: aws.String(rootDevice), VirtualizationType: aws.String("hvm"), EnaSupport: aws.Bool(t.ena), BlockDeviceMappings: mappings,
		TagSpecifications: []types.TagSpecification{tagged(types.ResourceTypeImage, tags(&spec.Meta, print))}}
	if spec.Architecture == providers.ARM64 {
		in.Architecture = types.ArchitectureValuesArm64
	}
	if !p.opts.Cloud.NoBootMode {
		in.BootMode = types.BootModeValuesLegacyBios
		if spec.Firmware == providers.UEFI {
			in.BootMode = types.BootModeValuesUefi
		}
	}
	id := ""
	out, err := p.ec2.RegisterImage(ctx, in)
	switch {
	case code(err) == "InvalidAMIName.Duplicate":
	case err != nil:
		return "", wrap(what, err)
	default:
		id = aws.ToString(out.ImageId)
	}
	found, ok, err := settled(ctx, p, func() (*types.Image, bool, error) {
		i, err := p.findImage(ctx, spec.Token)
		return i, i != nil && (i.State == types.ImageStateAvailable || i.State == types.ImageStateFailed || i.State == types.ImageStateInvalid), err
	})
	switch {
	case err != nil:
		return "", wrap(what, err)
	case !ok:
		return id, fmt.Errorf("%s: %w: it is not ready yet", what, providers.ErrTryAgain)
	case found.State != types.ImageStateAvailable:
		return aws.ToString(found.ImageId), fmt.Errorf("%s: %w: the image is %s", what, providers.ErrInvalid, found.State)
	}
	if _, _, _, all := read(found.Tags); all[tagSpec] != print {
		return "", fmt.Errorf("%s: %w: the token was used for another request", what, providers.ErrConflict)
	}
	return aws.ToString(found.ImageId), nil
}

// findImage looks for a token's image; nil if there is none, or none that reads know.
func (p *Provider) findImage(ctx context.Context, token string) (*types.Image, error) {
	out, err := p.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: []types.Filter{filter("name", imageName(token))}})
	if err != nil || len(out.Images) == 0 {
		return nil, err
	}
	return &out.Images[0], nil
}

// dropImage removes a token's image once its instance is there, or cannot be.
func (p *Provider) dropImage(ctx context.Context, token string) error {
	i, err := p.findImage(ctx, token)
	if err != nil || i == nil {
		return wrap("remove image", err)
	}
	return p.DeleteImage(ctx, aws.ToString(i.ImageId))
}

// DeleteImage implements providers.ImageRemover.
func (p *Provider) DeleteImage(ctx context.Context, id string) error {
	if !is("ami", id) {
		return ctx.Err()
	}
	_, err := p.ec2.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: aws.String(id)})
	if code(err) == "InvalidAMIID.Unavailable" { // deregistered before
		return nil
	}
	return absent(wrap("remove image "+id, err))
}
