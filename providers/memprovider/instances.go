package memprovider

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/openmigrate/openmigrate/providers"
)

type instance struct {
	providers.Instance
	left    int
	console []byte
	screen  []byte
}

// CreateInstance implements providers.Instances.
func (p *Provider) CreateInstance(ctx context.Context, spec providers.InstanceSpec) (providers.Instance, error) {
	c := p.capabilities()
	if err := spec.Check(&c); err != nil {
		return providers.Instance{}, err
	}
	types, err := p.InstanceTypes(ctx)
	if err != nil {
		return providers.Instance{}, err
	}
	at := slices.IndexFunc(types, func(t providers.InstanceType) bool { return t.ID == spec.Type })
	if at < 0 {
		return providers.Instance{}, fmt.Errorf("create instance: type %q: %w", spec.Type, providers.ErrNotFound)
	}
	if err := spec.CheckType(types[at]); err != nil {
		return providers.Instance{}, err
	}
	for _, n := range spec.NICs {
		if n.Network != Isolated && n.Network != Production {
			return providers.Instance{}, fmt.Errorf("create instance: network %q: %w", n.Network, providers.ErrNotFound)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id, key, text, again, err := p.claim(providers.KindInstance, spec.Meta, spec)
	if err != nil {
		return providers.Instance{}, err
	}
	if again {
		return p.instances[id].Instance, nil
	}
	if err := p.checkDisks(spec.Disks); err != nil {
		return providers.Instance{}, err
	}
	if err := p.register(key, spec.Meta); err != nil {
		return providers.Instance{}, err
	}
	i := &instance{left: p.opts.Polls, Instance: providers.Instance{ID: id, Name: spec.Name, Owner: spec.Owner, Tags: maps.Clone(spec.Tags), Type: spec.Type,
		Firmware: spec.Firmware, Bus: spec.Bus, State: providers.StateCreating, Created: p.opts.Clock.Now()}}
	for n, d := range spec.Disks {
		v := d.From.ID
		if d.From.Kind == providers.FromSnapshot {
			meta := spec.Meta
			meta.Token = fmt.Sprintf("%s.%d", id, n) // no caller's token has a dot
			made, err := p.createVolume(&c, providers.VolumeSpec{Meta: meta, From: d.From})
			if err != nil {
				for _, undo := range i.Disks {
					if spec.Disks[0].From.Kind == providers.FromSnapshot {
						delete(p.volumes, undo.Volume)
						p.removeContent(undo.Volume)
					}
				}
				return providers.Instance{}, err
			}
			v = made.ID
		}
		i.Disks = append(i.Disks, providers.InstanceDisk{Volume: v, Delete: d.Delete, Boot: n == spec.Boot})
	}
	for _, d := range i.Disks {
		p.volumes[d.Volume].State, p.volumes[d.Volume].Instance = providers.StateAvailable, id
	}
	for n, nic := range spec.NICs {
		i.NICs = append(i.NICs, plug(p.serial, n, nic))
	}
	p.instances[id], p.tokens[key] = i, token{id, text}
	delete(p.images, key)
	p.step(i)
	return i.Instance, nil
}

// register makes the image of an instance, unless an earlier create with its token came no further. The caller holds mu.
func (p *Provider) register(key string, meta providers.Meta) error {
	if _, ok := p.images[key]; !ok && p.opts.Shape == Cloud {
		p.serial++
		p.images[key] = providers.Resource{Kind: providers.KindImage, ID: fmt.Sprintf("mem-image-%04d", p.serial), Name: meta.Name, Owner: meta.Owner,
			State: providers.StateAvailable, Created: p.opts.Clock.Now()}
	}
	if p.lacking > 0 {
		p.lacking--
		return fmt.Errorf("create instance: %w: there is no room for this type now; repeat it, or choose another type or zone", providers.ErrTryAgain)
	}
	return nil
}

// Lack makes the next n creates of instances end with ErrTryAgain, as a cloud does that has no room. In the shape Cloud the image is made all the same.
func (p *Provider) Lack(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lacking = n
}

// DeleteImage implements providers.ImageRemover.
func (p *Provider) DeleteImage(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, i := range p.images {
		if i.ID == id && ctx.Err() == nil {
			delete(p.images, key)
		}
	}
	return ctx.Err()
}

func (p *Provider) checkDisks(disks []providers.Disk) error {
	for _, d := range disks {
		if d.From.Kind == providers.FromSnapshot {
			if s := p.snapshots[d.From.ID]; s == nil {
				return missing(providers.KindSnapshot, d.From.ID)
			} else if s.State != providers.StateAvailable {
				return fmt.Errorf("create instance: %w: snapshot %s is %s", providers.ErrConflict, s.ID, s.State)
			}
			continue
		}
		v := p.volumes[d.From.ID]
		if v == nil {
			return missing(providers.KindVolume, d.From.ID)
		}
		if v.State != providers.StateAvailable || v.Instance != "" || v.Attachment != nil {
			return fmt.Errorf("create instance: %w: volume %s is %s, instance %q, attachment %v", providers.ErrConflict, v.ID, v.State, v.Instance, v.Attachment)
		}
	}
	return nil
}

func plug(serial, n int, nic providers.NIC) providers.InstanceNIC {
	out := providers.InstanceNIC{Network: nic.Network, MAC: nic.MAC, Addresses: []netip.Addr{nic.Address}}
	if out.MAC == "" {
		out.MAC = fmt.Sprintf("02:00:00:%02x:%02x:%02x", serial>>8&0xff, serial&0xff, n)
	}
	if !nic.Address.IsValid() {
		out.Addresses[0] = netip.AddrFrom4([4]byte{10, byte(n), byte(serial >> 8), byte(serial)})
	}
	for _, port := range nic.Forward {
		out.Forwards = append(out.Forwards, providers.Forward{Port: port, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)})
	}
	return out
}

// step moves an instance on. The caller holds mu.
func (p *Provider) step(i *instance) {
	if i.left > 0 {
		i.left--
		return
	}
	switch i.State {
	case providers.StateCreating:
		i.State = providers.StateRunning
		if p.opts.Boot != nil {
			i.console = append(i.console, p.opts.Boot(i.Instance)...)
		}
	case providers.StateStopping:
		i.State = providers.StateStopped
	case providers.StateTerminating:
		i.State = providers.StateTerminated
		for _, d := range i.Disks {
			if v := p.volumes[d.Volume]; v != nil {
				v.Instance = ""
				if d.Delete {
					delete(p.volumes, d.Volume)
					p.removeContent(d.Volume)
				}
			}
		}
		for _, v := range p.volumes {
			if v.Attachment != nil && v.Attachment.Writer == i.ID {
				v.Attachment = nil
			}
		}
	}
}

// get returns an instance that is there. The caller holds mu.
func (p *Provider) get(ctx context.Context, id string) (*instance, error) {
	i := p.instances[id]
	if i == nil {
		return nil, missing(providers.KindInstance, id)
	}
	return i, ctx.Err()
}

// Instance implements providers.Instances.
func (p *Provider) Instance(ctx context.Context, id string) (providers.Instance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := p.get(ctx, id)
	if err != nil {
		return providers.Instance{}, err
	}
	p.step(i)
	return i.Instance, nil
}

// move begins a change of state, or says that none is needed.
func (p *Provider) move(ctx context.Context, id string, to providers.State, fine, from []providers.State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := p.get(ctx, id)
	switch {
	case err != nil:
		return err
	case slices.Contains(fine, i.State):
		return nil
	case !slices.Contains(from, i.State):
		return fmt.Errorf("instance %s: %w: it is %s, and cannot be %s", id, providers.ErrConflict, i.State, to)
	}
	i.State, i.left = to, p.opts.Polls
	p.step(i)
	return nil
}

// StartInstance implements providers.Instances.
func (p *Provider) StartInstance(ctx context.Context, id string) error {
	return p.move(ctx, id, providers.StateCreating, []providers.State{providers.StateCreating, providers.StateRunning}, []providers.State{providers.StateStopped})
}

// StopInstance implements providers.Instances.
func (p *Provider) StopInstance(ctx context.Context, id string, _ bool) error {
	return p.move(ctx, id, providers.StateStopping, []providers.State{providers.StateStopping, providers.StateStopped},
		[]providers.State{providers.StateCreating, providers.StateRunning})
}

// TerminateInstance implements providers.Instances.
func (p *Provider) TerminateInstance(ctx context.Context, id string) error {
	p.mu.Lock()
	known := p.instances[id] != nil
	p.mu.Unlock()
	if !known {
		return ctx.Err()
	}
	return p.move(ctx, id, providers.StateTerminating, []providers.State{providers.StateTerminating, providers.StateTerminated},
		[]providers.State{providers.StateCreating, providers.StateRunning, providers.StateStopping, providers.StateStopped, providers.StateFailed})
}
