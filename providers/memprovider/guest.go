package memprovider

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"

	"github.com/openmigrate/openmigrate/providers"
)

// Console implements providers.Instances.
func (p *Provider) Console(ctx context.Context, id string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := p.get(ctx, id)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(i.console[max(0, len(i.console)-providers.ConsoleLimit):]), nil
}

// Screenshot implements providers.Instances: black, unless SetScreen was called.
func (p *Provider) Screenshot(ctx context.Context, id string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, err := p.get(ctx, id)
	if err != nil {
		return nil, err
	}
	if i.State != providers.StateRunning {
		return nil, fmt.Errorf("screenshot of %s: %w: it is %s", id, providers.ErrConflict, i.State)
	}
	if i.screen != nil {
		return bytes.Clone(i.screen), nil
	}
	var b bytes.Buffer
	err = png.Encode(&b, image.NewGray(image.Rect(0, 0, 640, 480)))
	return b.Bytes(), err
}

// Write adds to a machine's console, as its system would.
func (p *Provider) Write(id, text string) error {
	return p.edit(id, func(i *instance) { i.console = append(i.console, text...) })
}

// SetScreen sets what Screenshot returns.
func (p *Provider) SetScreen(id string, png []byte) error {
	return p.edit(id, func(i *instance) { i.screen = png })
}

// Fail makes a machine fail, as a host that breaks does.
func (p *Provider) Fail(id, reason string) error {
	return p.edit(id, func(i *instance) { i.State, i.Reason = providers.StateFailed, reason })
}

func (p *Provider) edit(id string, do func(*instance)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.instances[id]
	if i == nil {
		return missing(providers.KindInstance, id)
	}
	do(i)
	return nil
}

// List implements providers.Provider.
func (p *Provider) List(ctx context.Context, system string) ([]providers.Resource, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []providers.Resource
	add := func(kind providers.Kind, r providers.Resource) {
		if r.Kind = kind; r.Owner.System == system {
			all = append(all, r)
		}
	}
	for _, v := range p.volumes {
		add(providers.KindVolume, providers.Resource{ID: v.ID, Name: v.Name, Owner: v.Owner, State: v.State, Created: v.Created})
	}
	for _, s := range p.snapshots {
		add(providers.KindSnapshot, providers.Resource{ID: s.ID, Name: s.Name, Owner: s.Owner, State: s.State, Created: s.Created})
	}
	for _, i := range p.images {
		add(providers.KindImage, i)
	}
	for _, i := range p.instances {
		// Every look at the list takes time, too: what is going goes on going.
		if p.step(i); i.State != providers.StateTerminated {
			add(providers.KindInstance, providers.Resource{ID: i.ID, Name: i.Name, Owner: i.Owner, State: i.State, Created: i.Created})
		}
	}
	return all, ctx.Err()
}
