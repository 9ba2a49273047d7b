package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/providers"
)

// CreateSnapshot implements providers.Snapshots: a copy of the volume's file, which shares its blocks where the file system can.
func (p *Provider) CreateSnapshot(ctx context.Context, spec providers.SnapshotSpec) (providers.Snapshot, error) {
	c := p.capabilities()
	if err := spec.Check(&c); err != nil {
		return providers.Snapshot{}, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return providers.Snapshot{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return providers.Snapshot{}, ctx.Err()
	}
	id := idFor(providers.KindSnapshot, spec.Token)
	if s := p.snapshots[id]; s != nil {
		return s.Snapshot, again(providers.KindSnapshot, id, s.Spec == string(text), s.Snapshot.State)
	}
	v, err := p.quiet(spec.Volume)
	if err != nil {
		return providers.Snapshot{}, fmt.Errorf("create snapshot: %w", err)
	}
	if err := p.diskRoom(p.need(v.Volume.ID)); err != nil {
		return providers.Snapshot{}, fmt.Errorf("create snapshot of volume %s: %w", v.Volume.ID, err)
	}
	s := &snapshot{snapshotRecord: snapshotRecord{Spec: string(text), Snapshot: providers.Snapshot{ID: id, Name: spec.Name, Owner: spec.Owner, Tags: maps.Clone(spec.Tags),
		Volume: v.Volume.ID, Size: v.Volume.Size, State: providers.StateCreating, Created: time.Now().UTC()}}}
	if err := p.saveSnapshot(s); err != nil {
		return providers.Snapshot{}, fmt.Errorf("create snapshot: %w", err)
	}
	p.snapshots[id] = s
	step("snapshot recorded")
	p.take(s)
	return s.Snapshot, nil
}

// take copies the volume of a snapshot in the background. The caller holds mu.
func (p *Provider) take(s *snapshot) {
	ctx, cancel := context.WithCancel(p.ctx)
	job := &copying{cancel, make(chan struct{})}
	s.copying = job
	readers := new(int)
	if v := p.volumes[s.Snapshot.Volume]; v != nil {
		readers = &v.readers
	}
	*readers++
	from, to, size := p.path(volumesDir, s.Snapshot.Volume, diskName), p.path(snapshotsDir, s.Snapshot.ID, diskName), s.Snapshot.Size
	p.work.Go(func() {
		defer close(job.done)
		defer cancel()
		err := copyDisk(ctx, to, from, size)
		step("snapshot copied")
		p.mu.Lock()
		defer p.mu.Unlock()
		*readers--
		defer p.ring()
		if ctx.Err() != nil || s.Snapshot.State != providers.StateCreating {
			return // to be taken up by the next process, or removed
		}
		s.Snapshot.State, s.Snapshot.Taken = providers.StateAvailable, true
		if err == nil {
			err = p.saveSnapshot(s)
		}
		if err != nil {
			s.Snapshot.State, s.Snapshot.Taken, s.Snapshot.Reason = providers.StateFailed, false, hostError(err).Error()
			_ = p.saveSnapshot(s) // the next process copies again
		}
	})
}

// Snapshot implements providers.Snapshots.
func (p *Provider) Snapshot(ctx context.Context, id string) (providers.Snapshot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.snapshots[id]
	if s == nil || s.Snapshot.State == stateGone {
		return providers.Snapshot{}, missing(providers.KindSnapshot, id)
	}
	return s.Snapshot, ctx.Err()
}

// DeleteSnapshot implements providers.Snapshots.
func (p *Provider) DeleteSnapshot(ctx context.Context, id string) error {
	p.mu.Lock()
	s := p.snapshots[id]
	if s == nil || s.Snapshot.State == stateGone || ctx.Err() != nil {
		p.mu.Unlock()
		return ctx.Err()
	}
	var err error
	for _, v := range p.volumes {
		if v.Format == qcow2 && v.View == nil && v.From.ID == id && v.Volume.State != stateGone {
			err = fmt.Errorf("%w: thin volume %s is on it; delete that first", providers.ErrConflict, v.Volume.ID)
		}
	}
	if s.readers > 0 {
		err = fmt.Errorf("%w: a volume is being made from it", providers.ErrConflict)
	}
	if was := s.Snapshot.State; err == nil && was != providers.StateDeleting {
		s.Snapshot.State = providers.StateDeleting
		if err = p.saveSnapshot(s); err != nil {
			s.Snapshot.State = was
		}
	}
	p.mu.Unlock()
	if err == nil {
		step("snapshot deleting")
		err = p.removeSnapshot(s)
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	return nil
}

// removeSnapshot removes a snapshot whose record says that it goes. It may be called again.
func (p *Provider) removeSnapshot(s *snapshot) error {
	s.removing.Lock()
	defer s.removing.Unlock()
	if s.copying != nil {
		s.copying.cancel()
		<-s.copying.done
	}
	err := p.discard(snapshotsDir, s.Snapshot.ID)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && s.Snapshot.State != stateGone {
		s.Snapshot.State, s.Gone = stateGone, time.Now().UTC()
		if err = p.saveSnapshot(s); err != nil {
			s.Snapshot.State, s.Gone = providers.StateDeleting, time.Time{}
		}
	}
	return errors.Join(err, durable.SyncDir(p.path(snapshotsDir, s.Snapshot.ID, "")))
}
