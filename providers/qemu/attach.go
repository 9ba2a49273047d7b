package qemu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/providers"
)

// known returns a volume that is not gone. The caller holds mu.
func (p *Provider) known(id string) (*volume, error) {
	v := p.volumes[id]
	if v == nil || v.Volume.State == stateGone {
		return nil, missing(providers.KindVolume, id)
	}
	return v, nil
}

// Volume implements providers.Volumes.
func (p *Provider) Volume(ctx context.Context, id string) (providers.Volume, error) {
	p.pollFill(ctx, id)
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.known(id)
	if err != nil {
		return providers.Volume{}, err
	}
	out := v.Volume
	if i := p.userOf(id); i != nil {
		out.Instance = i.Instance.ID
	}
	return out, ctx.Err()
}

// AttachVolume implements providers.Volumes: the path of a raw file on this host.
func (p *Provider) AttachVolume(ctx context.Context, id, writer string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.known(id)
	switch {
	case err != nil:
		return fmt.Errorf("attach: %w", err)
	case ctx.Err() != nil:
		return ctx.Err()
	case v.Volume.Attachment != nil && v.Volume.Attachment.Writer == writer:
		return nil
	case v.Volume.Attachment != nil || v.Volume.State != providers.StateAvailable:
		return fmt.Errorf("attach volume %s: %w: it is %s, or another writer has it", id, providers.ErrConflict, v.Volume.State)
	case p.userOf(id) != nil:
		return fmt.Errorf("attach volume %s: %w: it is a disk of instance %s", id, providers.ErrConflict, p.userOf(id).Instance.ID)
	case writer != "":
		return fmt.Errorf("attach volume %s: %w: volumes are files here and have no writer", id, providers.ErrInvalid)
	case v.Format != raw:
		return fmt.Errorf("attach volume %s: %w: it is thin: make a full clone to write to it", id, providers.ErrInvalid)
	}
	v.Volume.Attachment = &providers.Attachment{Kind: providers.WriterFile, Ready: true, Path: p.path(volumesDir, id, diskName)}
	if err := p.saveVolume(v); err != nil {
		v.Volume.Attachment = nil
		return fmt.Errorf("attach volume %s: %w", id, err)
	}
	return nil
}

// DetachVolume implements providers.Volumes.
func (p *Provider) DetachVolume(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.known(id)
	if err != nil || v.Volume.Attachment == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	was := v.Volume.Attachment
	v.Volume.Attachment = nil
	if err := p.saveVolume(v); err != nil {
		v.Volume.Attachment = was
		return fmt.Errorf("detach volume %s: %w", id, err)
	}
	return nil
}

// DeleteVolume implements providers.Volumes.
func (p *Provider) DeleteVolume(ctx context.Context, id string) error {
	p.mu.Lock()
	v, err := p.known(id)
	if err != nil || ctx.Err() != nil {
		p.mu.Unlock()
		return ctx.Err()
	}
	user := p.userOf(id)
	switch {
	case user != nil:
		err = fmt.Errorf("%w: it is a disk of instance %s", providers.ErrConflict, user.Instance.ID)
	case v.Volume.Attachment != nil:
		err = fmt.Errorf("%w: a writer has it", providers.ErrConflict)
	case v.readers > 0:
		err = fmt.Errorf("%w: it is being copied", providers.ErrConflict)
	case v.Volume.State != providers.StateDeleting:
		err = p.deleting(v)
	}
	p.mu.Unlock()
	if err == nil {
		err = p.removeVolume(v)
	}
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", id, err)
	}
	return nil
}

// deleting says durably that a volume is to go. The caller holds mu.
func (p *Provider) deleting(v *volume) error {
	was := v.Volume.State
	v.Volume.State = providers.StateDeleting
	if err := p.saveVolume(v); err != nil {
		v.Volume.State = was
		return err
	}
	step("volume deleting")
	return nil
}

// removeVolume removes a volume whose record says that it goes. It may be called again.
func (p *Provider) removeVolume(v *volume) error {
	v.removing.Lock()
	defer v.removing.Unlock()
	if v.copying != nil {
		v.copying.cancel()
		<-v.copying.done // ends at the next piece
	}
	err := p.discard(volumesDir, v.Volume.ID)
	step("disk removed")
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && v.Volume.State != stateGone {
		v.Volume.State, v.Gone = stateGone, time.Now().UTC()
		if err = p.saveVolume(v); err != nil {
			v.Volume.State, v.Gone = providers.StateDeleting, time.Time{}
		}
	}
	return errors.Join(err, durable.SyncDir(p.path(volumesDir, v.Volume.ID, "")))
}
