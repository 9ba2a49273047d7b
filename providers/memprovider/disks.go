package memprovider

import (
	"context"
	"fmt"
	"maps"

	"github.com/openmigrate/openmigrate/providers"
)

type volume struct {
	providers.Volume
	left int // polls until the state is reached
}

type snapshot struct {
	providers.Snapshot
	left int
	puts map[int64]bool // blocks, of a snapshot that is written block by block
	open bool           // it is written
}

// CreateVolume implements providers.Volumes.
func (p *Provider) CreateVolume(ctx context.Context, spec providers.VolumeSpec) (providers.Volume, error) {
	c := p.capabilities()
	if err := spec.Check(&c); err != nil {
		return providers.Volume{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return providers.Volume{}, ctx.Err()
	}
	return p.createVolume(&c, spec)
}

func (p *Provider) createVolume(c *providers.Capabilities, spec providers.VolumeSpec) (providers.Volume, error) {
	id, key, text, again, err := p.claim(providers.KindVolume, spec.Meta, spec)
	if err != nil {
		return providers.Volume{}, err
	}
	if again {
		if v := p.volumes[id]; v != nil {
			return v.Volume, nil
		}
		return providers.Volume{}, gone(providers.KindVolume, id)
	}
	size := spec.Size
	switch spec.From.Kind {
	case providers.FromVolume:
		v := p.volumes[spec.From.ID]
		if v == nil {
			return providers.Volume{}, missing(providers.KindVolume, spec.From.ID)
		}
		if v.State != providers.StateAvailable || v.Instance != "" {
			return providers.Volume{}, fmt.Errorf("clone volume %s: %w: it is %s, instance %q", v.ID, providers.ErrConflict, v.State, v.Instance)
		}
		size, err = atLeast(size, v.Size)
	case providers.FromSnapshot:
		s := p.snapshots[spec.From.ID]
		if s == nil {
			return providers.Volume{}, missing(providers.KindSnapshot, spec.From.ID)
		}
		if s.State != providers.StateAvailable {
			return providers.Volume{}, fmt.Errorf("restore snapshot %s: %w: it is %s", s.ID, providers.ErrConflict, s.State)
		}
		size, err = atLeast(size, s.Size)
	}
	if err == nil {
		size, err = c.RoundSize(size)
	}
	if err == nil {
		err = p.room(size)
	}
	if err == nil {
		err = p.content(id, spec.From.ID, size)
	}
	if err != nil {
		return providers.Volume{}, err
	}
	v := &volume{left: p.opts.Polls, Volume: providers.Volume{ID: id, Name: spec.Name, Owner: spec.Owner, Tags: maps.Clone(spec.Tags), Size: size, Zone: spec.Zone,
		State: providers.StateCreating, Created: p.opts.Clock.Now()}}
	v.step()
	p.volumes[id], p.tokens[key] = v, token{id, text}
	return v.Volume, nil
}

func atLeast(size, source int64) (int64, error) {
	if size != 0 && size < source {
		return 0, fmt.Errorf("create volume: %w: %d bytes are less than the %d of its source", providers.ErrInvalid, size, source)
	}
	return max(size, source), nil
}

// room checks the limit. The caller holds mu.
func (p *Provider) room(size int64) error {
	used := size
	for _, v := range p.volumes {
		used += v.Size
	}
	if p.opts.Limit > 0 && used > p.opts.Limit {
		return fmt.Errorf("create volume of %d bytes: %w: %d bytes of %d are in use", size, providers.ErrQuota, used-size, p.opts.Limit)
	}
	return nil
}

func (v *volume) step() {
	if v.left > 0 {
		v.left--
		return
	}
	if v.State == providers.StateCreating {
		v.State = providers.StateAvailable
	}
	if v.Attachment != nil {
		a := *v.Attachment // what was handed out before does not change
		a.Ready = true
		v.Attachment = &a
	}
}

// Volume implements providers.Volumes.
func (p *Provider) Volume(ctx context.Context, id string) (providers.Volume, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.volumes[id]
	if v == nil {
		return providers.Volume{}, missing(providers.KindVolume, id)
	}
	v.step()
	return v.Volume, ctx.Err()
}

// AttachVolume implements providers.Volumes.
func (p *Provider) AttachVolume(ctx context.Context, id, writer string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.volumes[id]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case v == nil:
		return missing(providers.KindVolume, id)
	case v.Attachment != nil && v.Attachment.Writer == writer:
		return nil
	case v.Attachment != nil || v.Instance != "" || v.State != providers.StateAvailable:
		return fmt.Errorf("attach volume %s: %w: it is %s, instance %q, attachment %v", id, providers.ErrConflict, v.State, v.Instance, v.Attachment)
	}
	a := &providers.Attachment{Writer: writer, Kind: providers.WriterFile, Path: p.Path(id)}
	if p.opts.Shape == Cloud {
		if i := p.instances[writer]; i == nil || i.State != providers.StateRunning {
			return fmt.Errorf("attach volume %s: %w", id, missing(providers.KindInstance, writer))
		}
		a.Kind, a.Path, a.Serial = providers.WriterDevice, "", id
	} else if writer != "" {
		return fmt.Errorf("attach volume %s: %w: volumes are files here and have no writer", id, providers.ErrInvalid)
	}
	v.Attachment, v.left = a, p.opts.Polls
	v.step()
	return nil
}

// DetachVolume implements providers.Volumes.
func (p *Provider) DetachVolume(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.volumes[id]; v != nil && ctx.Err() == nil {
		v.Attachment = nil
	}
	return ctx.Err()
}

// DeleteVolume implements providers.Volumes.
func (p *Provider) DeleteVolume(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := p.volumes[id]
	switch {
	case ctx.Err() != nil || v == nil:
		return ctx.Err()
	case v.Instance != "" || v.Attachment != nil:
		return fmt.Errorf("delete volume %s: %w: instance %q or a writer has it", id, providers.ErrConflict, v.Instance)
	}
	delete(p.volumes, id)
	p.removeContent(id)
	return nil
}
