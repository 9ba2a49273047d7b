// Package aws is the provider for Amazon EC2 and EBS, and for clouds that speak the same protocols. DESIGN.md says how it keeps the invariants of package
// providers over an API whose reads are eventual and whose creates do not all have client tokens.
//
// It is tested against awsfake, not yet against AWS. Any number of goroutines may use a Provider.
package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/providers"
)

// Options say which account, where, and what the cloud lacks. Credentials come from where every AWS program takes them: the environment, the shared
// files, or the instance's role. The zero value is AWS, in the region of the environment.
type Options struct {
	Cloud    Cloud
	Region   string // the environment's when empty
	Profile  string // of the shared files
	Endpoint string // of EC2 and, unless they are given, of EBS and STS; https, or http on loopback
	EBS, STS string // endpoints
	// Role is assumed for every call, with ExternalID where its trust policy asks for one: "How to use an external ID" in the IAM user guide.
	Role, ExternalID string
	// Writer is the instance in which the hydrator runs. Volumes are made in its zone unless they say otherwise.
	Writer string

	CallsPerSecond float64       // of EC2, at most; 10 when 0. A throttled provider goes on slower than that for a while
	Pause          time.Duration // between looks at what was just made, 1 s when 0
	Settle         time.Duration // that a new thing may be unknown to reads, at most; 15 s when 0
	Backoff        time.Duration // between the SDK's own repetitions of a call, at most; 8 s when 0
	Clock          clock.Clock   // Real when nil
}

// Cloud is how an EC2-compatible cloud differs from AWS, as data. The zero value is AWS.
type Cloud struct {
	Name       string // "aws" when empty: Capabilities.Provider
	NoEBS      bool   // no EBS direct APIs
	NoNVMe     bool   // disks are virtio or Xen block devices
	NoScreen   bool   // no GetConsoleScreenshot
	NoBootMode bool   // RegisterImage does not know BootMode: machines start from BIOS
	NoIMDS     bool   // no instance metadata service with tokens
	NoTypes    bool   // no DescribeInstanceTypes: types are named in templates
}

// Compatible is what is safe to take for granted of clouds that call themselves compatible with EC2.
var Compatible = Cloud{Name: "ec2-compatible", NoEBS: true, NoNVMe: true, NoScreen: true, NoBootMode: true, NoIMDS: true}

func (c Cloud) name() string {
	if c.Name == "" {
		return "aws"
	}
	return c.Name
}

// Provider implements providers.Provider, providers.ImageRemover and, where the cloud has the direct APIs, providers.SnapshotWriter.
type Provider struct {
	opts Options
	ec2  *ec2.Client
	ebs  *ebs.Client

	opened time.Time

	mu    sync.Mutex
	known known                // guarded by mu
	tried map[string]time.Time // guarded by mu: when this process last tried to make a snapshot, by token
}

// Open reads the configuration; it calls nobody. A wrong one shows in Capabilities.
func Open(ctx context.Context, opts Options) (*Provider, error) {
	opts.defaults()
	for _, e := range []string{opts.Endpoint, opts.EBS, opts.STS} {
		if err := checkEndpoint(e); err != nil {
			return nil, fmt.Errorf("open provider %s: %w", opts.Cloud.name(), err)
		}
	}
	load := []func(*config.LoadOptions) error{config.WithRetryer(func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, opts.Backoff })
	})}
	if opts.Region != "" {
		load = append(load, config.WithRegion(opts.Region))
	}
	if opts.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(opts.Profile))
	}
	c, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("open provider %s: read the AWS configuration: %w", opts.Cloud.name(), err)
	}
	if c.Region == "" {
		return nil, fmt.Errorf("open provider %s: %w: no region; name one (region=…), or set AWS_REGION", opts.Cloud.name(), providers.ErrInvalid)
	}
	opts.Region = c.Region
	if opts.Role != "" {
		client := sts.NewFromConfig(c, func(o *sts.Options) { o.BaseEndpoint = endpoint(opts.STS, opts.Endpoint) })
		c.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(client, opts.Role, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "openmigrate"
			if opts.ExternalID != "" {
				o.ExternalID = &opts.ExternalID
			}
		}))
	}
	p := &Provider{opts: opts, opened: time.Now(), tried: map[string]time.Time{}}
	p.ec2 = ec2.NewFromConfig(c, func(o *ec2.Options) {
		o.BaseEndpoint = endpoint(opts.Endpoint)
		o.HTTPClient = newPace(o.HTTPClient, opts.CallsPerSecond)
	})
	p.ebs = ebs.NewFromConfig(c, func(o *ebs.Options) { o.BaseEndpoint = endpoint(opts.EBS, opts.Endpoint) })
	return p, nil
}

// attempts at a call before it is the caller's to repeat.
const attempts = 4

func (o *Options) defaults() {
	if o.CallsPerSecond == 0 {
		o.CallsPerSecond = 10
	}
	if o.Pause == 0 {
		o.Pause = time.Second
	}
	if o.Settle == 0 {
		o.Settle = 15 * time.Second
	}
	if o.Backoff == 0 {
		o.Backoff = 8 * time.Second
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
}

// endpoint is the first that is set; nil is AWS's own.
func endpoint(urls ...string) *string {
	for _, u := range urls {
		if u != "" {
			return &u
		}
	}
	return nil
}

// sleep waits between two looks.
func (p *Provider) sleep(ctx context.Context) error {
	timer := time.NewTimer(p.opts.Pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settled repeats a look until it finds something, or one that began after Settle did not. Reads of EC2 are eventual: what was just made may be unknown to
// them. Not finding it is no error.
func settled[T any](ctx context.Context, p *Provider, look func() (T, bool, error)) (T, bool, error) {
	until := time.Now().Add(p.opts.Settle)
	for {
		last := !time.Now().Before(until)
		got, found, err := look()
		if errors.Is(err, providers.ErrNotFound) {
			err = nil
		}
		if found || err != nil || last {
			return got, found, err
		}
		if err := p.sleep(ctx); err != nil {
			return got, false, err
		}
	}
}

var _ interface {
	providers.Provider
	providers.TypeByName
	providers.ImageRemover
	providers.SnapshotWriter
} = (*Provider)(nil)

// client is the SDK's own, which it makes for itself when there is none.
func client(given aws.HTTPClient) aws.HTTPClient {
	if given == nil {
		return awshttp.NewBuildableClient().WithTimeout(time.Minute)
	}
	return given
}

// Do implements aws.HTTPClient.
func (p *pace) Do(r *http.Request) (*http.Response, error) {
	if err := p.limit.Wait(r.Context()); err != nil {
		return nil, err
	}
	resp, err := p.next.Do(r)
	if err == nil {
		p.learn(resp.StatusCode)
	}
	return resp, err
}
