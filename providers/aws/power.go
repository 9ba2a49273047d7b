package aws

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/openmigrate/openmigrate/providers"
)

// StartInstance implements providers.Instances.
func (p *Provider) StartInstance(ctx context.Context, id string) error {
	if !is("i", id) {
		return missing("instance", id)
	}
	_, err := p.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{id}})
	return wrap("start instance "+id, err)
}

// StopInstance implements providers.Instances. EC2 asks the system to shut down and cuts the power after minutes; with force at once.
func (p *Provider) StopInstance(ctx context.Context, id string, force bool) error {
	if !is("i", id) {
		return missing("instance", id)
	}
	in := &ec2.StopInstancesInput{InstanceIds: []string{id}}
	if force {
		in.Force = aws.Bool(true)
	}
	_, err := p.ec2.StopInstances(ctx, in)
	return wrap("stop instance "+id, err)
}

// TerminateInstance implements providers.Instances. It lifts the protection that the launch's own template asked for: that is against others.
func (p *Provider) TerminateInstance(ctx context.Context, id string) error {
	if !is("i", id) {
		return ctx.Err()
	}
	what, in := "terminate instance "+id, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}
	_, err := p.ec2.TerminateInstances(ctx, in)
	if code(err) == "OperationNotPermitted" {
		if _, err = p.ec2.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: aws.String(id), DisableApiTermination: &types.AttributeBooleanValue{Value: aws.Bool(false)}}); err == nil {
			_, err = p.ec2.TerminateInstances(ctx, in)
		}
	}
	return absent(wrap(what, err))
}

// Console implements providers.Instances.
func (p *Provider) Console(ctx context.Context, id string) ([]byte, error) {
	if !is("i", id) {
		return nil, missing("instance", id)
	}
	in := &ec2.GetConsoleOutputInput{InstanceId: aws.String(id), Latest: aws.Bool(true)}
	out, err := p.ec2.GetConsoleOutput(ctx, in)
	if c := code(err); c == "UnsupportedOperation" || c == "InvalidParameterCombination" || c == "UnknownParameter" { // Latest is of Nitro only
		in.Latest = nil
		out, err = p.ec2.GetConsoleOutput(ctx, in)
	}
	if err != nil {
		return nil, wrap("read console of "+id, err)
	}
	text, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
	if err != nil {
		return nil, fmt.Errorf("read console of %s: %w", id, err)
	}
	return text[max(0, len(text)-providers.ConsoleLimit):], nil
}

// screenMost are the most pixels of a screenshot that is decoded.
const screenMost = 4096 * 4096

// Screenshot implements providers.Instances: EC2's JPEG as PNG.
func (p *Provider) Screenshot(ctx context.Context, id string) ([]byte, error) {
	if !is("i", id) {
		return nil, missing("instance", id)
	}
	what := "take a screenshot of " + id
	if p.opts.Cloud.NoScreen {
		return nil, fmt.Errorf("%s: %w: %s has none", what, providers.ErrInvalid, p.opts.Cloud.name())
	}
	out, err := p.ec2.GetConsoleScreenshot(ctx, &ec2.GetConsoleScreenshotInput{InstanceId: aws.String(id), WakeUp: aws.Bool(true)})
	if err != nil {
		return nil, wrap(what, err)
	}
	b, err := toPNG(aws.ToString(out.ImageData))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}

// toPNG converts a picture in base64, of which nothing is taken for granted.
func toPNG(text string) ([]byte, error) {
	if base64.StdEncoding.DecodedLen(len(text)) > providers.ScreenshotLimit {
		return nil, fmt.Errorf("the picture has more than %d bytes", providers.ScreenshotLimit)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	size, err := jpeg.DecodeConfig(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if size.Width <= 0 || size.Height <= 0 || int64(size.Width)*int64(size.Height) > screenMost {
		return nil, fmt.Errorf("a picture of %d by %d", size.Width, size.Height)
	}
	var picture image.Image
	if picture, err = jpeg.Decode(bytes.NewReader(raw)); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return nil, err
	}
	if b.Len() > providers.ScreenshotLimit {
		return nil, fmt.Errorf("the picture has %d bytes, of at most %d", b.Len(), providers.ScreenshotLimit)
	}
	return b.Bytes(), nil
}
