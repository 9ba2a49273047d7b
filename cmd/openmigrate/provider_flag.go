package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/aws"
	"github.com/openmigrate/openmigrate/providers/qemu"
)

// The kinds of providers.
const (
	qemuName = "qemu" // on this host
	awsName  = "aws"
	ec2Name  = "ec2" // a cloud that is compatible with EC2
)

const providerForms = "qemu[=DIR][,accel=kvm|tcg], or aws|ec2[,region=R][,endpoint=URL][,role=ARN][,external-id=X][,profile=P][,writer=i-…]"

// providerOptions are the --provider flags of a master.
type providerOptions struct{ specs []string }

func (o *providerOptions) flags(c *cobra.Command, what string) {
	c.Flags().StringArrayVar(&o.specs, "provider", nil, "where machines are brought up; again for each"+what+". qemu[=DIR][,accel=kvm|tcg]: as QEMU processes of this host, kept in DIR (default D/providers/qemu). "+
		"aws[,region=R][,role=ARN][,external-id=X][,profile=P][,writer=i-…][,endpoint=URL]: in an AWS account, with credentials from the environment; writer is the instance that the hydrator runs in. "+
		"ec2,endpoint=URL,region=R[…]: in a cloud that is compatible with EC2")
}

// providerSpec is one --provider.
type providerSpec struct {
	name, dir, accel string
	cloud            *aws.Options
}

// parse reads the flags. Several of one name are an error.
func (o *providerOptions) parse(dataDir string) ([]providerSpec, error) {
	var specs []providerSpec
	for _, text := range o.specs {
		head, rest, _ := strings.Cut(text, ",")
		name, dir, hasDir := strings.Cut(head, "=")
		s := providerSpec{name: name, dir: dir}
		var options []string
		if rest != "" {
			options = strings.Split(rest, ",")
		}
		err := error(nil)
		switch {
		case name == qemuName:
			err = s.host(dataDir, options)
		case (name == awsName || name == ec2Name) && !hasDir:
			err = s.inCloud(options)
		default:
			err = fmt.Errorf("there is only %s", providerForms)
		}
		if err != nil {
			return nil, cli.Usagef("--provider %q: %w", text, err)
		}
		for i := range specs {
			if specs[i].name == name {
				return nil, cli.Usagef("--provider %s is given twice", name)
			}
		}
		specs = append(specs, s)
	}
	return specs, nil
}

func (s *providerSpec) host(dataDir string, options []string) error {
	if s.dir == "" {
		s.dir = filepath.Join(dataDir, "providers", s.name)
	}
	for _, o := range options {
		accel, ok := strings.CutPrefix(o, "accel=")
		if s.accel = accel; !ok || accel != "kvm" && accel != "tcg" {
			return errors.New("after the comma comes accel=kvm or accel=tcg")
		}
	}
	return nil
}

func (s *providerSpec) inCloud(options []string) error {
	s.cloud = &aws.Options{}
	if s.name == ec2Name {
		s.cloud.Cloud = aws.Compatible
	}
	into := map[string]*string{"region": &s.cloud.Region, "endpoint": &s.cloud.Endpoint, "role": &s.cloud.Role, "external-id": &s.cloud.ExternalID, "profile": &s.cloud.Profile, "writer": &s.cloud.Writer}
	for _, o := range options {
		key, value, ok := strings.Cut(o, "=")
		if into[key] == nil || !ok || value == "" {
			return fmt.Errorf("%q: want %s", o, providerForms)
		}
		*into[key] = value
	}
	if s.name == ec2Name && s.cloud.Endpoint == "" {
		return errors.New("a cloud that is compatible with EC2 has an endpoint=URL")
	}
	return nil
}

// opened are the providers of a master.
type opened struct {
	usable  map[string]providers.Provider
	broken  map[string]error  // why the others cannot be used
	folders map[string]string // that a node on this host writes volumes in, by provider
	writers map[string]string // instances in which a hydrator writes volumes, by provider
	close   []func() error
}

// openProviders opens all that it can: a master whose provider is in use elsewhere, or broken, replicates all the same.
func openProviders(ctx context.Context, specs []providerSpec, log *slog.Logger) (*opened, error) {
	o := &opened{usable: map[string]providers.Provider{}, broken: map[string]error{}, folders: map[string]string{}, writers: map[string]string{}}
	for _, s := range specs {
		if s.cloud != nil {
			p, err := aws.Open(ctx, *s.cloud)
			if err != nil {
				o.skip(s.name, err, log)
				continue
			}
			o.usable[s.name], o.writers[s.name] = p, s.cloud.Writer
			continue
		}
		dir, err := filepath.Abs(s.dir)
		if err != nil {
			return nil, fmt.Errorf("folder of provider %s: %w", s.name, err)
		}
		p, err := qemu.Open(qemu.Options{Dir: dir, Accel: s.accel})
		if err != nil {
			o.skip(s.name, err, log)
			continue
		}
		o.usable[s.name], o.folders[s.name] = p, qemu.VolumesDir(dir)
		o.close = append(o.close, p.Close)
	}
	return o, nil
}

func (o *opened) skip(name string, err error, log *slog.Logger) {
	log.Warn("a provider cannot be used; replication goes on", "provider", name, "error", err)
	o.broken[name] = err
}

// Close lets all go. Machines go on running, and are found again at the next start.
func (o *opened) Close() error {
	var errs []error
	for _, f := range o.close {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// warnIfNotRoot says what does not work without root.
func warnIfNotRoot(log *slog.Logger) {
	if os.Geteuid() != 0 {
		log.Warn("not root: disks are replicated, but no machine can be launched, for conversion mounts file systems", "next", "run it as root")
	}
}
