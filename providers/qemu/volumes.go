package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// copying is a disk that is being made in the background.
type copying struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// CreateVolume implements providers.Volumes. An empty volume is available on return.
func (p *Provider) CreateVolume(ctx context.Context, spec providers.VolumeSpec) (providers.Volume, error) {
	return p.createVolume(ctx, spec, nil)
}

func (p *Provider) createVolume(ctx context.Context, spec providers.VolumeSpec, view *providers.View) (providers.Volume, error) {
	c := p.capabilities()
	if err := spec.Check(&c); err != nil {
		return providers.Volume{}, err
	}
	text, err := json.Marshal(struct {
		providers.VolumeSpec
		View *providers.View `json:",omitempty"`
	}{spec, view})
	if err != nil {
		return providers.Volume{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return providers.Volume{}, ctx.Err()
	}
	id := idFor(providers.KindVolume, spec.Token)
	if v := p.volumes[id]; v != nil {
		return v.Volume, again(providers.KindVolume, id, v.Spec == string(text), v.Volume.State)
	}
	v, err := p.planVolume(id, &c, spec)
	if err != nil {
		return providers.Volume{}, fmt.Errorf("create volume: %w", err)
	}
	if view != nil {
		v.View, v.Format, v.Volume.Lazy = view, qcow2, true
	}
	v.Spec = string(text)
	if err := p.diskRoom(v.Filled); err != nil {
		return providers.Volume{}, fmt.Errorf("create volume of %d bytes: %w", v.Volume.Size, err)
	}
	if err := p.addVolume(v); err != nil {
		return providers.Volume{}, fmt.Errorf("create volume: %w", err)
	}
	return v.Volume, nil
}

// again is the error of a create whose token was used before.
func again(kind providers.Kind, id string, same bool, state providers.State) error {
	if !same {
		return fmt.Errorf("create %s: %w: the token made %s, of another request", kind, providers.ErrConflict, id)
	}
	if state == stateGone || state == providers.StateDeleting {
		return fmt.Errorf("create %s: %w: the token made %s, which was removed; use a new token", kind, providers.ErrConflict, id)
	}
	return nil
}

// planVolume looks at the source of a volume and says what it will be. The caller holds mu.
func (p *Provider) planVolume(id string, c *providers.Capabilities, spec providers.VolumeSpec) (*volume, error) {
	v := &volume{volumeRecord: volumeRecord{Format: raw, From: spec.From, Filled: spec.Filled, Volume: providers.Volume{
		ID: id, Name: spec.Name, Owner: spec.Owner, Tags: maps.Clone(spec.Tags), Size: spec.Size, State: providers.StateCreating, Created: time.Now().UTC()}}}
	var source int64
	switch spec.From.Kind {
	case providers.FromVolume:
		from, err := p.quiet(spec.From.ID)
		if err != nil {
			return nil, err
		}
		source, v.Filled = from.Volume.Size, p.need(from.Volume.ID)
	case providers.FromSnapshot:
		from := p.snapshots[spec.From.ID]
		if from == nil || from.Snapshot.State == stateGone {
			return nil, missing(providers.KindSnapshot, spec.From.ID)
		}
		if from.Snapshot.State != providers.StateAvailable {
			return nil, fmt.Errorf("%w: snapshot %s is %s", providers.ErrConflict, from.Snapshot.ID, from.Snapshot.State)
		}
		source = from.Snapshot.Size
		if spec.Thin && c.ThinClones {
			v.Format = qcow2
		} else if !p.reflink {
			v.Filled = allocated(p.path(snapshotsDir, from.Snapshot.ID, diskName))
		}
	default:
		if v.Filled == 0 {
			v.Filled = spec.Size
		}
	}
	if v.Volume.Size != 0 && v.Volume.Size < source {
		return nil, fmt.Errorf("%w: %d bytes are less than the %d of its source", providers.ErrInvalid, spec.Size, source)
	}
	var err error
	v.Volume.Size, err = c.RoundSize(max(v.Volume.Size, source))
	return v, err
}

// quiet returns a volume whose file nobody writes to but, perhaps, a writer that holds still. The caller holds mu.
func (p *Provider) quiet(id string) (*volume, error) {
	v := p.volumes[id]
	if v == nil || v.Volume.State == stateGone {
		return nil, missing(providers.KindVolume, id)
	}
	if v.Volume.State != providers.StateAvailable {
		return nil, fmt.Errorf("%w: volume %s is %s", providers.ErrConflict, id, v.Volume.State)
	}
	if v.Format != raw {
		return nil, fmt.Errorf("%w: volume %s is thin: only an instance can use it", providers.ErrInvalid, id)
	}
	if i := p.userOf(id); i != nil && !p.reflink && i.Instance.State != providers.StateStopped {
		return nil, fmt.Errorf("%w: instance %s runs on volume %s, and the file system of %s cannot share blocks; stop the instance, or use XFS or btrfs",
			providers.ErrConflict, i.Instance.ID, id, p.opts.Dir)
	}
	return v, nil
}

// addVolume writes a new volume down and begins to make it. The caller holds mu.
func (p *Provider) addVolume(v *volume) error {
	if err := p.saveVolume(v); err != nil {
		return err
	}
	p.volumes[v.Volume.ID] = v
	step("volume recorded")
	if v.Format != raw || v.From.Kind != providers.FromNothing {
		p.fill(v)
		return nil
	}
	err := makeDisk(p.path(volumesDir, v.Volume.ID, diskName), v.Volume.Size)
	if err == nil {
		step("disk made")
		v.Volume.State = providers.StateAvailable
		err = p.saveVolume(v)
	}
	if err != nil {
		delete(p.volumes, v.Volume.ID)
		return errors.Join(hostError(err), os.RemoveAll(p.path(volumesDir, v.Volume.ID, "")))
	}
	return nil
}

// fill makes the disk of a volume in the background. The caller holds mu.
func (p *Provider) fill(v *volume) {
	ctx, cancel := context.WithCancel(p.ctx)
	job := &copying{cancel, make(chan struct{})}
	v.copying = job
	from, readers := "", new(int)
	switch v.From.Kind {
	case providers.FromVolume:
		from = p.path(volumesDir, v.From.ID, diskName)
		if s := p.volumes[v.From.ID]; s != nil {
			readers = &s.readers
		}
	case providers.FromSnapshot:
		from = p.path(snapshotsDir, v.From.ID, diskName)
		if s := p.snapshots[v.From.ID]; s != nil {
			readers = &s.readers
		}
	}
	*readers++
	to, size := p.path(volumesDir, v.Volume.ID, diskName), v.Volume.Size
	p.work.Go(func() {
		defer close(job.done)
		defer cancel()
		var err error
		switch {
		case v.Format == qcow2:
			err = p.makeOverlay(ctx, to, size)
		case from == "":
			err = makeDisk(to, size)
		default:
			err = copyDisk(ctx, to, from, size)
		}
		step("disk made")
		p.mu.Lock()
		defer p.mu.Unlock()
		*readers--
		defer p.ring()
		if ctx.Err() != nil || v.Volume.State != providers.StateCreating {
			return // to be taken up by the next process, or removed
		}
		v.Volume.State = providers.StateAvailable
		if err != nil {
			v.Volume.State, v.Volume.Reason = providers.StateFailed, hostError(err).Error()
		}
		if err := p.saveVolume(v); err != nil {
			v.Volume.State, v.Volume.Reason = providers.StateFailed, err.Error()
		}
	})
}

// makeOverlay makes an empty qcow2 disk. It does not name what lies below it: that is said each time a machine is started, so no path is believed
// that a guest might have put into its disk.
func (p *Provider) makeOverlay(ctx context.Context, name string, size int64) error {
	_ = os.Remove(name) // an older attempt
	out, err := exec.CommandContext(ctx, p.opts.QEMUImg, "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=off", name, strconv.FormatInt(size, 10)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make overlay: %w: %.500s", err, out)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func missing(kind providers.Kind, id string) error {
	return fmt.Errorf("%s %.80q: %w", kind, id, providers.ErrNotFound)
}
