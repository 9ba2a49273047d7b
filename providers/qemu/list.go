package qemu

import (
	"context"

	"github.com/openmigrate/openmigrate/providers"
)

// List implements providers.Provider.
func (p *Provider) List(ctx context.Context, system string) ([]providers.Resource, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []providers.Resource
	add := func(kind providers.Kind, r providers.Resource) {
		if r.Kind = kind; r.Owner.System == system && r.State != stateGone && r.State != providers.StateTerminated {
			all = append(all, r)
		}
	}
	for _, r := range p.volumes {
		v := &r.Volume
		add(providers.KindVolume, providers.Resource{ID: v.ID, Name: v.Name, Owner: v.Owner, State: v.State, Created: v.Created})
	}
	for _, r := range p.snapshots {
		s := &r.Snapshot
		add(providers.KindSnapshot, providers.Resource{ID: s.ID, Name: s.Name, Owner: s.Owner, State: s.State, Created: s.Created})
	}
	for _, r := range p.instances {
		i := &r.Instance
		add(providers.KindInstance, providers.Resource{ID: i.ID, Name: i.Name, Owner: i.Owner, State: i.State, Created: i.Created})
	}
	return all, ctx.Err()
}
