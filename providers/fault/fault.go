// Package fault wraps a provider so that chosen calls fail: before anything was done, or after it was done, as when the answer is lost on its
// way. Rules are data; what no rule names passes through. Any number of goroutines may use it.
package fault

import (
	"context"
	"fmt"
	"sync"

	"github.com/openmigrate/openmigrate/providers"
)

// Rule makes calls fail.
type Rule struct {
	Op    string // a method of providers.Provider; any when empty
	Nth   int    // of the calls that match Op, from 1; 0 means 1
	Times int    // how many calls in a row from there on; 0 means 1, negative means all
	After bool   // the call is done, and its answer is lost
	Err   error  // providers.ErrTryAgain when nil
}

// Provider is what New returns.
type Provider struct {
	next providers.Provider

	mu    sync.Mutex
	rules []Rule         // guarded by mu
	seen  []int          // guarded by mu, calls that matched each rule
	calls map[string]int // guarded by mu
}

// New wraps next.
func New(next providers.Provider, rules ...Rule) *Provider {
	p := &Provider{next: next, calls: map[string]int{}}
	p.Set(rules...)
	return p
}

// Set replaces the rules and counts from 0 again.
func (p *Provider) Set(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.seen = rules, make([]int, len(rules))
	clear(p.calls)
}

// Calls is how often each method was called since New or Set.
func (p *Provider) Calls(op string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[op]
}

// hit returns the rule that a call falls under.
func (p *Provider) hit(op string) *Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[op]++
	var found *Rule
	for i := range p.rules {
		r := &p.rules[i]
		if r.Op != "" && r.Op != op {
			continue
		}
		p.seen[i]++
		first, times := max(r.Nth, 1), r.Times
		if times == 0 {
			times = 1
		}
		if found == nil && p.seen[i] >= first && (times < 0 || p.seen[i] < first+times) {
			found = &Rule{Op: op, After: r.After, Err: r.Err}
		}
	}
	if found != nil && found.Err == nil {
		found.Err = providers.ErrTryAgain
	}
	return found
}

func call[T any](p *Provider, op string, do func() (T, error)) (T, error) {
	r := p.hit(op)
	var none T
	if r == nil {
		return do()
	}
	if r.After {
		if got, err := do(); err != nil {
			return got, err
		}
	}
	return none, fmt.Errorf("%s: %w (injected, after the work: %v)", op, r.Err, r.After)
}

func run(p *Provider, op string, do func() error) error {
	_, err := call(p, op, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// Capabilities implements providers.Provider, as do the methods below. The optional interfaces are left out of what it can do.
func (p *Provider) Capabilities(ctx context.Context) (providers.Capabilities, error) {
	return call(p, "Capabilities", func() (providers.Capabilities, error) {
		c, err := p.next.Capabilities(ctx)
		c.SnapshotBlocks, c.Lazy = nil, false
		return c, err
	})
}

// InstanceTypes passes through or fails.
func (p *Provider) InstanceTypes(ctx context.Context) ([]providers.InstanceType, error) {
	return call(p, "InstanceTypes", func() ([]providers.InstanceType, error) { return p.next.InstanceTypes(ctx) })
}

// Networks passes through or fails.
func (p *Provider) Networks(ctx context.Context) ([]providers.Network, error) {
	return call(p, "Networks", func() ([]providers.Network, error) { return p.next.Networks(ctx) })
}

// CreateVolume passes through or fails.
func (p *Provider) CreateVolume(ctx context.Context, spec providers.VolumeSpec) (providers.Volume, error) {
	return call(p, "CreateVolume", func() (providers.Volume, error) { return p.next.CreateVolume(ctx, spec) })
}

// Volume passes through or fails.
func (p *Provider) Volume(ctx context.Context, id string) (providers.Volume, error) {
	return call(p, "Volume", func() (providers.Volume, error) { return p.next.Volume(ctx, id) })
}

// AttachVolume passes through or fails.
func (p *Provider) AttachVolume(ctx context.Context, id, writer string) error {
	return run(p, "AttachVolume", func() error { return p.next.AttachVolume(ctx, id, writer) })
}

// DetachVolume passes through or fails.
func (p *Provider) DetachVolume(ctx context.Context, id string) error {
	return run(p, "DetachVolume", func() error { return p.next.DetachVolume(ctx, id) })
}

// DeleteVolume passes through or fails.
func (p *Provider) DeleteVolume(ctx context.Context, id string) error {
	return run(p, "DeleteVolume", func() error { return p.next.DeleteVolume(ctx, id) })
}

// CreateSnapshot passes through or fails.
func (p *Provider) CreateSnapshot(ctx context.Context, spec providers.SnapshotSpec) (providers.Snapshot, error) {
	return call(p, "CreateSnapshot", func() (providers.Snapshot, error) { return p.next.CreateSnapshot(ctx, spec) })
}

// Snapshot passes through or fails.
func (p *Provider) Snapshot(ctx context.Context, id string) (providers.Snapshot, error) {
	return call(p, "Snapshot", func() (providers.Snapshot, error) { return p.next.Snapshot(ctx, id) })
}

// DeleteSnapshot passes through or fails.
func (p *Provider) DeleteSnapshot(ctx context.Context, id string) error {
	return run(p, "DeleteSnapshot", func() error { return p.next.DeleteSnapshot(ctx, id) })
}

// CreateInstance passes through or fails.
func (p *Provider) CreateInstance(ctx context.Context, spec providers.InstanceSpec) (providers.Instance, error) {
	return call(p, "CreateInstance", func() (providers.Instance, error) { return p.next.CreateInstance(ctx, spec) })
}

// DeleteImage implements providers.ImageRemover for a provider that does.
func (p *Provider) DeleteImage(ctx context.Context, id string) error {
	images, ok := p.next.(providers.ImageRemover)
	if !ok {
		return fmt.Errorf("delete image: %w: the provider has none", providers.ErrInvalid)
	}
	return run(p, "DeleteImage", func() error { return images.DeleteImage(ctx, id) })
}

// Instance passes through or fails.
func (p *Provider) Instance(ctx context.Context, id string) (providers.Instance, error) {
	return call(p, "Instance", func() (providers.Instance, error) { return p.next.Instance(ctx, id) })
}

// StartInstance passes through or fails.
func (p *Provider) StartInstance(ctx context.Context, id string) error {
	return run(p, "StartInstance", func() error { return p.next.StartInstance(ctx, id) })
}

// StopInstance passes through or fails.
func (p *Provider) StopInstance(ctx context.Context, id string, force bool) error {
	return run(p, "StopInstance", func() error { return p.next.StopInstance(ctx, id, force) })
}

// TerminateInstance passes through or fails.
func (p *Provider) TerminateInstance(ctx context.Context, id string) error {
	return run(p, "TerminateInstance", func() error { return p.next.TerminateInstance(ctx, id) })
}

// Console passes through or fails.
func (p *Provider) Console(ctx context.Context, id string) ([]byte, error) {
	return call(p, "Console", func() ([]byte, error) { return p.next.Console(ctx, id) })
}

// Screenshot passes through or fails.
func (p *Provider) Screenshot(ctx context.Context, id string) ([]byte, error) {
	return call(p, "Screenshot", func() ([]byte, error) { return p.next.Screenshot(ctx, id) })
}

// List passes through or fails.
func (p *Provider) List(ctx context.Context, system string) ([]providers.Resource, error) {
	return call(p, "List", func() ([]providers.Resource, error) { return p.next.List(ctx, system) })
}
