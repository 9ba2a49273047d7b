package qemu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/providers"
)

// bringDown powers a machine off: by asking its system until the deadline, then by ending the process.
func (p *Provider) bringDown(ctx context.Context, i *instance) error {
	id := i.Instance.ID
	p.mu.Lock()
	deadline, r := i.Deadline, i.Run
	p.mu.Unlock()
	if there, err := p.alive(id); err != nil {
		return err
	} else if there {
		asking, cancel := context.WithDeadline(ctx, deadline)
		p.askToPowerDown(asking, i)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.quit(ctx, i)
		if err := p.kill(ctx, id, i.UUID, r); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i.Want == providers.StateStopped {
		p.stopped(i, i.Instance.Reason)
	}
	return nil
}

// askToPowerDown presses the machine's power button until its system has powered off, the process is gone or ctx ends.
func (p *Provider) askToPowerDown(ctx context.Context, i *instance) {
	const again = 10 * time.Second // a system that boots does not hear it yet
	var pressed time.Time
	for ctx.Err() == nil {
		status := ""
		err := p.speak(ctx, i, func(q *qmp) (err error) {
			if time.Since(pressed) > again {
				pressed = time.Now()
				if err := q.run(ctx, "system_powerdown", nil, nil); err != nil {
					return err
				}
			}
			status, err = q.status(ctx)
			return err
		})
		if there, lockErr := p.alive(i.Instance.ID); status == "shutdown" || lockErr == nil && !there {
			return
		}
		if err != nil {
			pressed = time.Time{}
		}
		_ = sleep(ctx, 10*pause)
	}
}

// quit keeps the console and has QEMU end in good order. Whoever calls it kills what does not.
func (p *Provider) quit(ctx context.Context, i *instance) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := p.speak(ctx, i, func(q *qmp) error {
		p.lookAtFills(ctx, i, q)
		return errors.Join(p.drain(ctx, i.Instance.ID, q), q.run(ctx, "quit", nil, nil))
	})
	for err == nil {
		if there, err := p.alive(i.Instance.ID); err != nil || !there || sleep(ctx, pause) != nil {
			return
		}
	}
}

// bury removes an instance: first the process, then the disks that go with it, then the rest.
func (p *Provider) bury(ctx context.Context, i *instance) error {
	id := i.Instance.ID
	p.mu.Lock()
	r := i.Run
	p.mu.Unlock()
	if err := p.kill(ctx, id, i.UUID, r); err != nil {
		return err
	}
	step("process gone")
	for _, d := range i.Instance.Disks {
		if !d.Delete {
			continue
		}
		p.mu.Lock()
		v, err := p.known(d.Volume)
		if err == nil && v.Volume.State != providers.StateDeleting {
			err = p.deleting(v)
		}
		p.mu.Unlock()
		if err == nil {
			err = p.removeVolume(v)
		}
		if err != nil && !errors.Is(err, providers.ErrNotFound) {
			return fmt.Errorf("remove disk %s: %w", d.Volume, err)
		}
	}
	i.monitor.Lock() // nobody adds to the console now
	err := p.discard(instancesDir, id)
	i.monitor.Unlock()
	if err == nil {
		err = durable.SyncDir(p.path(instancesDir, id, ""))
	}
	if err != nil {
		return err
	}
	step("instance discarded")
	p.mu.Lock()
	defer p.mu.Unlock()
	i.Instance.State, i.Gone = providers.StateTerminated, time.Now().UTC()
	if err := p.saveInstance(i); err != nil {
		i.Instance.State, i.Gone = providers.StateTerminating, time.Time{}
		return err
	}
	return nil
}
