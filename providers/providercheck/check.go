// Package providercheck holds what every providers.Provider must keep: Check runs over a live one, also a user's own account, and providertest
// wraps it for tests. Check makes small empty volumes and machines that boot nothing, all under an owner of its own, and removes them again;
// what they cost is the provider's price for some minutes of the smallest type. Several runs at once do not disturb each other.
package providercheck

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// Options size a Check. The zero value, or nil, is the full suite.
type Options struct {
	System      string        // the owner of what is made, at random when empty: nothing else may carry it
	Type        string        // of instances; the smallest when empty
	Network     string        // an isolated one, or the first, when empty
	Writer      string        // an instance that volumes are attached to, where that is how they are written; one is made when empty
	VolumeSize  int64         // bytes, 8 MiB or the provider's least when 0
	NoInstances bool          // leave machines out
	Pause       time.Duration // between polls, 1 s when 0
	Timeout     time.Duration // of each part, 15 minutes when 0
	Stories     int           // launches with faults at random, 5 when 0
	Seed        uint64        // of these faults
}

// Result is the outcome of one part of a Check; Err is nil when the provider does as it must.
type Result struct {
	Name    string
	Skipped string // why the part does not apply to this provider; empty when it ran
	Took    time.Duration
	Err     error
}

type checker struct {
	providers.Provider
	opts   Options
	caps   providers.Capabilities
	typ    providers.InstanceType
	serial int // of tokens
}

// Check runs every part over p and reports each as it ends. It stops early only when ctx ends, or when p does not say what it can do; the last
// part says whether anything was left behind.
func Check(ctx context.Context, p providers.Provider, opts *Options, report func(Result)) {
	c := &checker{Provider: p}
	if opts != nil {
		c.opts = *opts
	}
	c.opts.defaults()
	parts := []struct {
		name string
		skip string
		run  func(context.Context) error
	}{
		{"catalogue", "", c.catalogue},
		{"absent", "", c.absent},
		{"volumes", "", c.volumes},
		{"tokens", "", c.tokens},
		{"concurrent tokens", "", c.concurrentTokens},
		{"bad input", "", c.badInput},
		{"attachment", "", c.attachment},
		{"snapshots and clones", "", c.snapshots},
		{"snapshots by blocks", "", c.blocks},
		{"instances", "", c.instances},
		{"stop and start", "", c.stopStart},
		{"disks that are kept", "", c.keptDisks},
		{"console and screenshot", "", c.console},
		{"bad instances", "", c.badInstances},
		{"lost answers of volumes", "", c.lostVolumes},
		{"lost answers of instances", "", c.lostInstances},
		{"sweep", "", c.sweep},
		{"launches with faults", "", c.stories},
		{"ended context", "", c.ended},
		{"nothing is left", "", c.nothingLeft},
	}
	for _, part := range parts {
		if ctx.Err() != nil {
			return
		}
		began := time.Now()
		err := c.part(ctx, part.run)
		r := Result{Name: part.name, Took: time.Since(began)}
		var skip skipped
		if errors.As(err, &skip) {
			r.Skipped = string(skip)
		} else {
			r.Err = err
		}
		report(r)
		if part.name == "catalogue" && err != nil {
			return
		}
	}
}

// skipped is the error of a part that does not apply.
type skipped string

func (s skipped) Error() string { return string(s) }

func (o *Options) defaults() {
	if o.System == "" {
		o.System = "openmigrate-check-" + rand.Text()[:12]
	}
	if o.VolumeSize == 0 {
		o.VolumeSize = 8 << 20
	}
	if o.Pause == 0 {
		o.Pause = time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Minute
	}
	if o.Stories == 0 {
		o.Stories = 5
	}
}

// part runs one part and removes what it made, whatever happened.
func (c *checker) part(ctx context.Context, run func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	err := run(bounded)
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.Timeout)
	defer cancel()
	report, cleanErr := providers.SweepAll(cleaning, c.Provider, c.opts.System, none, c.opts.Pause)
	if cleanErr != nil {
		return errors.Join(err, fmt.Errorf("clean up: %w; look for what carries the owner %q, such as %v", cleanErr, c.opts.System, report.Left))
	}
	return err
}

// none is the launches that live after a part.
func none(context.Context) (map[string]bool, error) { return nil, nil }

// meta is what a create of this run carries, under a new token.
func (c *checker) meta(launch string) providers.Meta {
	c.serial++
	return providers.Meta{
		Token: fmt.Sprintf("%.40s-%d", c.opts.System, c.serial), Owner: providers.Owner{System: c.opts.System, Launch: launch},
		Name: "openmigrate check", Tags: map[string]string{"purpose": "conformance, \"quoted\" = ok"},
	}
}

// count is how many resources of a kind List shows for a launch, once it shows want; after a while it is what it is.
func (c *checker) count(ctx context.Context, kind providers.Kind, launch string, want int) error {
	n, tries := 0, 0
	_, err := providers.Await(ctx, c.opts.Pause, func(ctx context.Context) ([]providers.Resource, error) { return c.List(ctx, c.opts.System) },
		func(all []providers.Resource) (bool, error) {
			n = 0
			for _, r := range all {
				if r.Owner.System != c.opts.System {
					return false, fmt.Errorf("list: %s %s belongs to %q", r.Kind, r.ID, r.Owner.System)
				}
				if r.Kind == kind && r.Owner.Launch == launch {
					n++
				}
			}
			tries++
			return n == want || n > want || tries == 20, nil
		})
	if err == nil && n != want {
		err = fmt.Errorf("list shows %d %ss, want %d", n, kind, want)
	}
	return err
}

func (c *checker) nothingLeft(ctx context.Context) error {
	left, err := c.List(ctx, c.opts.System)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d resources are left: %v", len(left), left)
	}
	return err
}

var errNone = errors.New("no error")

// wants returns an error unless err is of that class.
func wants(what string, err, class error) error {
	if errors.Is(err, class) {
		return nil
	}
	if err == nil {
		err = errNone
	}
	return fmt.Errorf("%s: %w, want %q", what, err, class.Error())
}
