package qemu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// kick has a worker look at what is wanted of an instance. The caller holds mu.
func (p *Provider) kick(i *instance) {
	if i.working {
		i.interrupt()
		return
	}
	if p.ctx.Err() == nil {
		i.working = true
		p.work.Go(func() { p.settle(i) })
	}
}

// settled reports whether an instance is what is wanted of it, or can never be. The caller holds mu.
func (i *instance) settled() bool {
	switch i.Want {
	case providers.StateRunning:
		return i.Instance.State == providers.StateRunning && i.adopted || i.Instance.State == providers.StateFailed
	case providers.StateStopped:
		return i.Instance.State == providers.StateStopped || i.Instance.State == providers.StateFailed
	}
	return i.Instance.State == providers.StateTerminated
}

// settle is the worker of an instance. Each step may be interrupted by another wish, or by the end of the process, and is taken again from the start.
func (p *Provider) settle(i *instance) {
	for {
		ctx, cancel := context.WithCancel(p.ctx)
		p.mu.Lock()
		if i.settled() || p.ctx.Err() != nil {
			i.working, i.interrupt = false, func() {}
			p.mu.Unlock()
			cancel()
			return
		}
		want := i.Want
		i.interrupt = cancel
		p.mu.Unlock()
		var err error
		switch want {
		case providers.StateRunning:
			if err = p.bringUp(ctx, i); err != nil && ctx.Err() == nil {
				p.mu.Lock()
				p.fail(i, err)
				p.mu.Unlock()
			}
		case providers.StateStopped:
			err = p.bringDown(ctx, i)
		default:
			err = p.bury(ctx, i)
		}
		if err != nil && want != providers.StateRunning && ctx.Err() == nil {
			p.mu.Lock()
			i.Instance.Reason = err.Error()
			p.mu.Unlock()
			_ = sleep(ctx, time.Second) // and again: it must go
		}
		cancel()
	}
}

// bringUp starts a machine, or adopts the process that an earlier owner started.
func (p *Provider) bringUp(ctx context.Context, i *instance) error {
	there, err := p.alive(i.Instance.ID)
	if err != nil {
		return err
	}
	if there {
		return p.adopt(ctx, i)
	}
	p.mu.Lock()
	if i.Instance.State == providers.StateRunning {
		reason := "the machine's process ended: " + p.lastWords(i.Instance.ID)
		if i.Run.Boot != bootID() {
			reason = "the host was restarted"
		}
		p.stopped(i, reason)
		p.mu.Unlock()
		return nil
	}
	p.mu.Unlock()
	disks, err := p.awaitDisks(ctx, i)
	if err != nil {
		return err
	}
	return p.start(ctx, i, disks)
}

// stopped says that a machine is off. The caller holds mu.
func (p *Provider) stopped(i *instance, reason string) {
	i.Want, i.Instance.State, i.Instance.Reason, i.adopted = providers.StateStopped, providers.StateStopped, reason, false
	i.Run.PID, i.Run.Start = 0, 0
	_ = p.saveInstance(i) // if not, the next process finds the same again
}

// adopt takes over a process that runs.
func (p *Provider) adopt(ctx context.Context, i *instance) error {
	i.monitor.Lock()
	pid, start, err := p.greet(ctx, i.Instance.ID)
	i.monitor.Unlock()
	if errors.Is(err, errNoProcess) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i.Instance.State == providers.StateRunning || i.Want != providers.StateRunning {
			return nil // looked at again
		}
		return fmt.Errorf("start QEMU: %s", p.lastWords(i.Instance.ID))
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i.Want != providers.StateRunning {
		return nil
	}
	i.adopted = true
	i.Run.Boot, i.Run.PID, i.Run.Start, i.Run.Ever = bootID(), pid, start, true
	i.Instance.State = providers.StateRunning
	if err := p.saveInstance(i); err != nil {
		i.Instance.Reason = err.Error() // it runs all the same, and the next process adopts it as this one did
	}
	step("running recorded")
	return nil
}

// awaitDisks waits until the volumes of an instance are there, and describes them. Those that a process died before making are made.
func (p *Provider) awaitDisks(ctx context.Context, i *instance) ([]disk, error) {
	for {
		p.mu.Lock()
		disks, err := p.disks(i)
		bell := p.bell
		p.mu.Unlock()
		if disks != nil || err != nil {
			return disks, err
		}
		select {
		case <-bell:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// disks describes the volumes of an instance; nil while one is being made. The caller holds mu.
func (p *Provider) disks(i *instance) ([]disk, error) {
	var disks []disk
	ready := true
	for n, d := range i.Instance.Disks {
		v := p.volumes[d.Volume]
		if from := i.Request.Disks[n].From; v == nil && from.Kind == providers.FromSnapshot {
			c := p.capabilities()
			var err error
			if v, err = p.planVolume(d.Volume, &c, providers.VolumeSpec{Meta: i.Request.Meta, From: from}); err == nil {
				err = p.addVolume(v)
			}
			if err != nil {
				return nil, fmt.Errorf("make disk %d: %w", n, err)
			}
		}
		switch {
		case v == nil || v.Volume.State == stateGone || v.Volume.State == providers.StateDeleting:
			return nil, fmt.Errorf("disk %d: %w", n, missing(providers.KindVolume, d.Volume))
		case v.Volume.State == providers.StateFailed:
			return nil, fmt.Errorf("disk %d, volume %s: %s", n, d.Volume, v.Volume.Reason)
		case v.Volume.State == providers.StateCreating:
			ready = false
			continue
		}
		x := disk{path: p.path(volumesDir, d.Volume, diskName), format: v.Format, view: v.View, boot: d.Boot}
		if v.Format == qcow2 && v.From.Kind == providers.FromSnapshot {
			x.backing = p.path(snapshotsDir, v.From.ID, diskName)
		}
		disks = append(disks, x)
	}
	if !ready {
		return nil, nil
	}
	return disks, nil
}
