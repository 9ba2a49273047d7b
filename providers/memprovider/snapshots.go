package memprovider

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/openmigrate/openmigrate/providers"
)

// CreateSnapshot implements providers.Snapshots.
func (p *Provider) CreateSnapshot(ctx context.Context, spec providers.SnapshotSpec) (providers.Snapshot, error) {
	c := p.capabilities()
	if err := spec.Check(&c); err != nil {
		return providers.Snapshot{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return providers.Snapshot{}, ctx.Err()
	}
	return p.createSnapshot(spec.Meta, spec, func(s *snapshot) (from string, err error) {
		v := p.volumes[spec.Volume]
		switch {
		case v == nil:
			return "", missing(providers.KindVolume, spec.Volume)
		case v.State != providers.StateAvailable, v.Instance != "" && !c.SnapshotInUse:
			return "", fmt.Errorf("snapshot volume %s: %w: it is %s, instance %q", v.ID, providers.ErrConflict, v.State, v.Instance)
		}
		s.Volume, s.Size, s.Taken = v.ID, v.Size, true
		return v.ID, nil
	})
}

func (p *Provider) createSnapshot(meta providers.Meta, spec any, fill func(*snapshot) (string, error)) (providers.Snapshot, error) {
	id, key, text, again, err := p.claim(providers.KindSnapshot, meta, spec)
	if err != nil {
		return providers.Snapshot{}, err
	}
	if again {
		if s := p.snapshots[id]; s != nil {
			return s.Snapshot, nil
		}
		return providers.Snapshot{}, gone(providers.KindSnapshot, id)
	}
	s := &snapshot{left: p.opts.Polls, Snapshot: providers.Snapshot{ID: id, Name: meta.Name, Owner: meta.Owner, Tags: maps.Clone(meta.Tags),
		State: providers.StateCreating, Created: p.opts.Clock.Now()}}
	from, err := fill(s)
	if err == nil {
		err = p.content(id, from, s.Size)
	}
	if err != nil {
		return providers.Snapshot{}, err
	}
	s.step()
	p.snapshots[id], p.tokens[key] = s, token{id, text}
	return s.Snapshot, nil
}

func (s *snapshot) step() {
	if s.open {
		return
	}
	if s.left > 0 {
		s.left--
		return
	}
	s.State, s.Taken = providers.StateAvailable, true
}

// Snapshot implements providers.Snapshots.
func (p *Provider) Snapshot(ctx context.Context, id string) (providers.Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.snapshots[id]
	if s == nil {
		return providers.Snapshot{}, missing(providers.KindSnapshot, id)
	}
	s.step()
	return s.Snapshot, ctx.Err()
}

// DeleteSnapshot implements providers.Snapshots.
func (p *Provider) DeleteSnapshot(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() == nil && p.snapshots[id] != nil {
		delete(p.snapshots, id)
		p.removeContent(id)
	}
	return ctx.Err()
}

// copySparse copies what is not zero, in pieces of 64 KiB, to a file that is empty.
func copySparse(to, from *os.File) error {
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := from.ReadAt(buf, off)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := to.WriteAt(buf[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
