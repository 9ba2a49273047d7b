package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/wire"
)

// templateOptions are the flags that make or change a launch template.
type templateOptions struct {
	file                                          string
	provider, typ, firmware, bus, network, zone   string
	cpus                                          int
	memory, gateway                               string
	addresses, dns, forward, checks, settings, sg []string
	checkTimeout, deadline                        time.Duration
	warm, instant                                 bool
}

// templateFlags are their names.
var templateFlags = []string{"file", "provider", "type", "cpus", "memory", "firmware", "bus", "zone", "network", "group", "address", "gateway", "dns", "forward",
	"check", "setting", "deadline", "warm", "instant"}

func (o *templateOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.file, "file", "f", "", "launch template to begin with, JSON or YAML, - for standard input (default: the machine's)")
	f.StringVar(&o.provider, "provider", "", "where (see 'providers ls'); may be left out when there is only one")
	f.StringVar(&o.typ, "type", "", "instance type; default: the smallest that has the source's processors and memory")
	f.IntVar(&o.cpus, "cpus", 0, "processors in place of the source's")
	f.StringVar(&o.memory, "memory", "", "memory in place of the source's, such as 2GiB")
	f.StringVar(&o.firmware, "firmware", "", "bios or uefi; default: the source's")
	f.StringVar(&o.bus, "bus", "", "how disks are attached: virtio-blk, virtio-scsi, nvme, ahci, pvscsi; default: the type's first")
	f.StringVar(&o.zone, "zone", "", "zone of the provider")
	f.StringVar(&o.network, "network", "", "network of the provider; default: an isolated one for a test, the first other one for a cutover")
	f.StringSliceVar(&o.sg, "group", nil, "security group; again for each")
	f.StringSliceVar(&o.addresses, "address", nil, "fixed address with the length of its network, such as 192.0.2.7/24; again for each (default: DHCP; 'dhcp' goes back to it)")
	f.StringVar(&o.gateway, "gateway", "", "gateway, with --address")
	f.StringSliceVar(&o.dns, "dns", nil, "name server, with --address; again for each")
	f.StringSliceVar(&o.forward, "forward", nil, "TCP port to reach from the provider's host, where it can; again for each")
	f.StringArrayVar(&o.checks, "check", nil, "what must be so before it counts as running: boot, console:TEXT, tcp:PORT, http:PORT/PATH, call-home, screenshot; again for each")
	f.DurationVar(&o.checkTimeout, "check-timeout", 0, "for every --check: how long after the start of the machine (default 10m)")
	f.StringArrayVar(&o.settings, "setting", nil, "NAME=VALUE that only this provider knows; again for each")
	f.DurationVar(&o.deadline, "deadline", 0, "a test is taken away so long after it runs (default 24h; negative: when somebody reverts it)")
	f.BoolVar(&o.warm, "warm", false, "keep volumes at the provider that follow each restpoint, so that little is left to write")
	f.BoolVar(&o.instant, "instant", false, "a test starts from staging at once, and is copied while it runs")
}

// given reports whether any of the flags was.
func (o *templateOptions) given(c *cobra.Command) bool {
	for _, name := range templateFlags {
		if c.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// base is the template that flags change: the file's, or the machine's.
func (o *templateOptions) base(ctx context.Context, m *apiclient.Client, machine string) (*wire.LaunchTemplate, error) {
	if o.file != "" {
		return readTemplate(o.file)
	}
	t, err := retry(ctx, func() (wire.LaunchTemplate, error) { return m.LaunchTemplate(ctx, machine) })
	return &t, err
}

// apply changes what was given.
func (o *templateOptions) apply(c *cobra.Command, t *wire.LaunchTemplate) error {
	given := c.Flags().Changed
	for name, to := range map[string]*string{"provider": &t.Provider, "firmware": &t.Firmware, "bus": &t.Bus, "zone": &t.Zone, "network": &t.Network} {
		if given(name) {
			*to = c.Flags().Lookup(name).Value.String()
		}
	}
	if given("type") {
		t.Type, t.CPUs, t.Memory = o.typ, 0, 0
	}
	if given("cpus") {
		t.Type, t.CPUs = "", o.cpus
	}
	if given("memory") {
		n, err := parseSize(o.memory)
		if err != nil {
			return cli.Usagef("--memory: %w", err)
		}
		t.Type, t.Memory = "", n
	}
	if given("group") {
		t.Groups = o.sg
	}
	if given("deadline") {
		t.Deadline = wire.Duration(o.deadline)
	}
	if given("warm") {
		t.Warm = o.warm
	}
	if given("instant") {
		t.Instant = o.instant
	}
	return firstError(o.applyAddress(c, t), o.applyForward(c, t), o.applyChecks(c, t), o.applySettings(c, t))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *templateOptions) applyAddress(c *cobra.Command, t *wire.LaunchTemplate) error {
	given := c.Flags().Changed
	if given("address") {
		t.Address = &wire.LaunchAddress{}
		if len(o.addresses) == 1 && o.addresses[0] == "dhcp" {
			t.Address = nil
		} else {
			for _, s := range o.addresses {
				p, err := netip.ParsePrefix(s)
				if err != nil {
					return cli.Usagef("--address %q: want an address with the length of its network, such as 192.0.2.7/24", s)
				}
				t.Address.Prefixes = append(t.Address.Prefixes, p)
			}
		}
	}
	if (given("gateway") || given("dns")) && t.Address == nil {
		return cli.Usagef("--gateway and --dns go with --address")
	}
	if given("gateway") {
		g, err := netip.ParseAddr(o.gateway)
		if err != nil {
			return cli.Usagef("--gateway %q: want an address", o.gateway)
		}
		t.Address.Gateway = g
	}
	if given("dns") {
		t.Address.DNS = nil
		for _, s := range o.dns {
			d, err := netip.ParseAddr(s)
			if err != nil {
				return cli.Usagef("--dns %q: want an address", s)
			}
			t.Address.DNS = append(t.Address.DNS, d)
		}
	}
	return nil
}

func (o *templateOptions) applyForward(c *cobra.Command, t *wire.LaunchTemplate) error {
	if !c.Flags().Changed("forward") {
		return nil
	}
	t.Forward = nil
	for _, s := range o.forward {
		p, err := parsePort(s)
		if err != nil {
			return cli.Usagef("--forward %q: want a port", s)
		}
		t.Forward = append(t.Forward, p)
	}
	return nil
}

func (o *templateOptions) applyChecks(c *cobra.Command, t *wire.LaunchTemplate) error {
	if !c.Flags().Changed("check") {
		if o.checkTimeout != 0 {
			return cli.Usagef("--check-timeout goes with --check")
		}
		return nil
	}
	t.Checks = nil
	for _, s := range o.checks {
		k, err := parseCheck(s)
		if err != nil {
			return cli.Usagef("--check %q: %w", s, err)
		}
		k.Timeout = wire.Duration(o.checkTimeout)
		t.Checks = append(t.Checks, k)
	}
	return nil
}

func (o *templateOptions) applySettings(c *cobra.Command, t *wire.LaunchTemplate) error {
	if !c.Flags().Changed("setting") {
		return nil
	}
	t.Settings = map[string]string{}
	for _, s := range o.settings {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return cli.Usagef("--setting %q: want NAME=VALUE", s)
		}
		t.Settings[name] = value
	}
	return nil
}

// parseCheck reads boot, call-home, screenshot, console:TEXT, tcp:PORT and http:PORT[/PATH].
func parseCheck(s string) (k wire.LaunchCheck, err error) {
	kind, rest, more := strings.Cut(s, ":")
	k.Kind = kind
	switch kind {
	case wire.CheckBoot, wire.CheckCallHome, wire.CheckScreenshot:
		if more {
			err = fmt.Errorf("%s stands alone", kind)
		}
	case wire.CheckConsole:
		if k.Text = rest; rest == "" {
			err = fmt.Errorf("want console:TEXT")
		}
	case wire.CheckTCP:
		if k.Port, err = parsePort(rest); err != nil {
			err = fmt.Errorf("want tcp:PORT")
		}
	case wire.CheckHTTP:
		port, path, has := strings.Cut(rest, "/")
		if k.Port, err = parsePort(port); err != nil {
			err = fmt.Errorf("want http:PORT/PATH")
		}
		if has {
			k.Path = "/" + path
		}
	default:
		err = fmt.Errorf("want boot, console:TEXT, tcp:PORT, http:PORT/PATH, call-home or screenshot")
	}
	return k, err
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// parseSize reads bytes, or a number with a unit: 512M, 2GiB.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTPiB")
	unit := strings.TrimSuffix(strings.TrimSuffix(s[len(digits):], "B"), "i")
	shift := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}
	n, err := strconv.ParseInt(digits, 10, 64)
	by, known := shift[unit]
	if err != nil || !known || n < 0 || n > math.MaxInt64>>by {
		return 0, fmt.Errorf("%q: want bytes, or a number with a binary unit such as 512MiB or 2GiB", s)
	}
	return n << by, nil
}

// maxTemplate bounds a template's file, in bytes; the master takes no larger ones.
const maxTemplate = 64 << 10

// readTemplate reads a launch template: YAML, of which JSON is a part. Unknown fields are errors: a slip in a name must not be taken for nothing.
func readTemplate(name string) (*wire.LaunchTemplate, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read launch template: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxTemplate+1))
	if err != nil {
		return nil, fmt.Errorf("read launch template: %w", err)
	}
	if len(b) > maxTemplate {
		return nil, cli.Usagef("read launch template %s: it has more than %d bytes", name, maxTemplate)
	}
	return parseTemplate(name, b)
}

func parseTemplate(name string, b []byte) (*wire.LaunchTemplate, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(b, &tree); err != nil {
		return nil, cli.Usagef("read launch template %s: %w", name, err)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, cli.Usagef("read launch template %s: %w", name, err)
	}
	t := &wire.LaunchTemplate{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(t); err != nil {
		return nil, cli.Usagef("read launch template %s: %s", name, strings.TrimPrefix(err.Error(), "json: "))
	}
	return t, nil
}

func newLaunchTemplate(a *app) *cobra.Command {
	o := &templateOptions{}
	c := &cobra.Command{Use: "template M", Short: "Show or change what launches of a machine are like", Args: cobra.ExactArgs(1),
		Long: `Show what launches of machine M are like, or change it: flags change single things, -f FILE replaces all of it.
What a template does not say is up to the provider and to what the source is. docs/LAUNCH.md lists the fields.`,
		Example: `  openmigrate launch template web1 --network nat --forward 22,443 --check http:443/health
  openmigrate launch template web1 -o json >web1.json; edit web1.json; openmigrate launch template web1 -f web1.json`,
		RunE: func(c *cobra.Command, args []string) error { return launchTemplate(c, a, o, args[0]) }}
	o.flags(c)
	return c
}

func launchTemplate(c *cobra.Command, a *app, o *templateOptions, machine string) error {
	ctx := c.Context()
	m, err := a.master()
	if err != nil {
		return err
	}
	t, err := o.base(ctx, m, machine)
	if err != nil {
		return err
	}
	if o.given(c) {
		if err := o.apply(c, t); err != nil {
			return err
		}
		set, err := m.SetLaunchTemplate(ctx, machine, *t)
		if err != nil {
			return err
		}
		t = &set
	}
	return a.out.Print(os.Stdout, t, func(w io.Writer) { writeTemplate(w, t) })
}

// writeTemplate shows what a template says, a line for each thing.
func writeTemplate(w io.Writer, t *wire.LaunchTemplate) {
	b, err := json.Marshal(t)
	var fields map[string]any
	if err == nil {
		err = json.Unmarshal(b, &fields)
	}
	if err != nil || len(fields) == 0 {
		cli.Row(w, "it says nothing: all is up to the provider and to what the source is")
		return
	}
	rows(w, "", fields)
}
