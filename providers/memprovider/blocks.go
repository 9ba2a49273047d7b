package memprovider

import (
	"context"
	"fmt"
	"os"

	"github.com/openmigrate/openmigrate/providers"
)

// blockSize is that of the EBS direct APIs, in bytes.
const blockSize = 512 << 10

// BeginSnapshot implements providers.SnapshotWriter.
func (p *Provider) BeginSnapshot(ctx context.Context, spec providers.BlockSnapshotSpec) (providers.Snapshot, error) {
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
		if s.Size, err = c.RoundSize(spec.Size); err != nil {
			return "", err
		}
		s.open, s.puts = true, map[int64]bool{}
		if spec.Parent == "" {
			return "", nil
		}
		parent := p.snapshots[spec.Parent]
		switch {
		case parent == nil:
			return "", missing(providers.KindSnapshot, spec.Parent)
		case parent.State != providers.StateAvailable:
			return "", fmt.Errorf("begin snapshot: %w: its parent %s is %s", providers.ErrConflict, parent.ID, parent.State)
		case parent.Size > s.Size:
			return "", fmt.Errorf("begin snapshot: %w: its parent %s is larger", providers.ErrInvalid, parent.ID)
		}
		return parent.ID, nil
	})
}

// PutBlock implements providers.SnapshotWriter.
func (p *Provider) PutBlock(ctx context.Context, id string, index int64, data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.snapshots[id]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s == nil:
		return missing(providers.KindSnapshot, id)
	case !s.open:
		return fmt.Errorf("put block %d of snapshot %s: %w: it is complete", index, id, providers.ErrConflict)
	case len(data) != blockSize || index < 0 || index >= (s.Size+blockSize-1)/blockSize:
		return fmt.Errorf("put block %d of %d bytes: %w: the snapshot has %d blocks of %d", index, len(data), providers.ErrInvalid, s.Size/blockSize, blockSize)
	}
	s.puts[index] = true
	if p.opts.Dir == "" {
		return nil
	}
	f, err := os.OpenFile(p.Path(id), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(data, index*blockSize)
	return err
}

// CompleteSnapshot implements providers.SnapshotWriter.
func (p *Provider) CompleteSnapshot(ctx context.Context, id string, blocks int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.snapshots[id]
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s == nil:
		return missing(providers.KindSnapshot, id)
	case blocks != int64(len(s.puts)):
		return fmt.Errorf("complete snapshot %s: %w: %d blocks were put, not %d", id, providers.ErrConflict, len(s.puts), blocks)
	}
	s.open = false
	return nil
}
