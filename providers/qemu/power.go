package qemu

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// machineOf returns an instance that is there. The caller holds mu.
func (p *Provider) machineOf(id string) (*instance, error) {
	i := p.instances[id]
	if i == nil {
		return nil, missing(providers.KindInstance, id)
	}
	return i, nil
}

// view is what is told of an instance. The caller holds mu.
func (i *instance) view() providers.Instance {
	out := i.Instance
	out.NICs = slices.Clone(out.NICs)
	for n := range out.NICs {
		if i.Instance.State != providers.StateRunning {
			out.NICs[n].Forwards = nil // there is nobody behind them
		}
	}
	return out
}

// Instance implements providers.Instances. It notices machines that ended by themselves.
func (p *Provider) Instance(ctx context.Context, id string) (providers.Instance, error) {
	p.mu.Lock()
	i, err := p.machineOf(id)
	if err != nil {
		p.mu.Unlock()
		return providers.Instance{}, err
	}
	look := i.Instance.State == providers.StateRunning && !i.working
	p.mu.Unlock()
	if look {
		p.observe(ctx, i)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return i.view(), ctx.Err()
}

// StartInstance implements providers.Instances.
func (p *Provider) StartInstance(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := p.machineOf(id)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	switch i.Instance.State {
	case providers.StateCreating, providers.StateRunning:
		return nil
	case providers.StateStopped:
	default:
		return fmt.Errorf("start instance %s: %w: it is %s", id, providers.ErrConflict, i.Instance.State)
	}
	typ, err := parseType(i.Instance.Type)
	if err == nil {
		err = p.memoryRoom(typ.Memory)
	}
	if err == nil {
		err = checkNICs(i.Request.NICs)
	}
	for _, d := range i.Instance.Disks {
		if v := p.volumes[d.Volume]; err == nil && v != nil && v.readers > 0 {
			err = fmt.Errorf("%w: its volume %s is being copied", providers.ErrConflict, d.Volume)
		}
	}
	if err == nil {
		err = p.want(i, providers.StateRunning, providers.StateCreating, time.Time{})
	}
	if err != nil {
		return fmt.Errorf("start instance %s: %w", id, err)
	}
	return nil
}

// StopInstance implements providers.Instances.
func (p *Provider) StopInstance(ctx context.Context, id string, force bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := p.machineOf(id)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	switch i.Instance.State {
	case providers.StateStopped:
		return nil
	case providers.StateStopping:
		if !force {
			return nil
		}
	case providers.StateCreating, providers.StateRunning:
	default:
		return fmt.Errorf("stop instance %s: %w: it is %s", id, providers.ErrConflict, i.Instance.State)
	}
	deadline := time.Now().UTC()
	if !force {
		deadline = deadline.Add(p.opts.Grace)
	}
	if err := p.want(i, providers.StateStopped, providers.StateStopping, deadline); err != nil {
		return fmt.Errorf("stop instance %s: %w", id, err)
	}
	return nil
}

// TerminateInstance implements providers.Instances.
func (p *Provider) TerminateInstance(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.instances[id]
	if i == nil || i.Instance.State == providers.StateTerminated || ctx.Err() != nil {
		return ctx.Err()
	}
	if i.Instance.State == providers.StateTerminating {
		p.kick(i) // in case that its worker gave up
		return nil
	}
	if err := p.want(i, providers.StateTerminated, providers.StateTerminating, time.Time{}); err != nil {
		return fmt.Errorf("terminate instance %s: %w", id, err)
	}
	return nil
}

// want writes down what is wanted of an instance and has it done. The caller holds mu.
func (p *Provider) want(i *instance, want, until providers.State, deadline time.Time) error {
	wanted, due, state, reason := i.Want, i.Deadline, i.Instance.State, i.Instance.Reason
	i.Want, i.Deadline, i.Instance.State, i.Instance.Reason = want, deadline, until, ""
	if err := p.saveInstance(i); err != nil {
		i.Want, i.Deadline, i.Instance.State, i.Instance.Reason = wanted, due, state, reason
		return err
	}
	step("want recorded")
	p.kick(i)
	return nil
}

// fail says that a machine never came up, or how. The caller holds mu.
func (p *Provider) fail(i *instance, err error) {
	i.Instance.State, i.Instance.Reason = providers.StateFailed, err.Error()
	if i.Run.Ever {
		i.Instance.State, i.Want = providers.StateStopped, providers.StateStopped // it has been one, and may be again
	}
	_ = p.saveInstance(i) // if not, the next process tries again and fails again
}
