package launch

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// fromWarm makes the launch's volumes as clones of the standing ones: those are taken, brought to the restpoint, cloned and given back.
func (r *run) fromWarm(ctx context.Context) (bool, error) {
	if made, err := r.cloned(ctx); err != nil || made {
		return made, err
	}
	v, ready, err := r.takeWarm(ctx)
	if err != nil || !ready {
		return false, err
	}
	ready, total := true, wire.Progress{}
	for n := range r.row.Disks {
		ok, err := r.syncWarm(ctx, &v, n, &total)
		if err != nil {
			return false, fmt.Errorf("disk %d: %w", n, err)
		}
		ready = ready && ok
	}
	r.show(&total)
	if !ready {
		return false, nil
	}
	for n := range r.row.Disks {
		ok, err := r.cloneWarm(ctx, &v, n)
		if err != nil {
			return false, fmt.Errorf("disk %d: %w", n, err)
		}
		ready = ready && ok
	}
	if !ready {
		return false, nil
	}
	return r.cloned(ctx)
}

// cloned reports whether all clones are there, and gives the standing volumes back when they are.
func (r *run) cloned(ctx context.Context) (bool, error) {
	for _, d := range r.row.Disks {
		if d.Volume == "" {
			return false, nil
		}
		v, err := r.p.Volume(ctx, d.Volume)
		if err != nil || v.State != providers.StateAvailable {
			return false, err
		}
	}
	point, err := r.Catalog.Restpoint(ctx, r.row.Restpoint)
	if err != nil {
		return false, err
	}
	return true, r.giveBack(ctx, func(v *warm) { v.Restpoint, v.Held, v.Instant = point.ID, point.ID, instantOf(&point) })
}

// takeWarm takes the standing volumes for the launch; ready is false while it has to wait. Without any that fit, the launch goes on without.
func (r *run) takeWarm(ctx context.Context) (v warm, ready bool, err error) {
	fits := true
	now := r.Clock.Now()
	v, err = r.changeWarm(ctx, r.row.Machine, func(v *warm) error {
		fits = v.Provider == r.row.Provider && !v.Releasing && v.Zone == r.row.Plan.Zone
		for _, d := range r.row.Disks {
			at := v.find(d.ID, d.Size)
			fits = fits && at >= 0 && v.Disks[at].Volume != ""
		}
		if !fits || v.User != "" && v.User != r.row.ID || v.Rest.After(now) {
			return errTaken
		}
		v.User = r.row.ID
		return nil
	})
	switch {
	case !fits:
		return v, false, r.save(ctx, func(l *row) {
			l.Warm = false
			for n := range l.Disks {
				l.Disks[n].Hydrated = false
			}
			l.say(now, "the standing volumes do not fit: it goes on without")
		})
	case errors.Is(err, errTaken):
		return v, false, r.note(ctx, "another launch or a job has the standing volumes")
	case err != nil:
		return v, false, err
	}
	// What was being applied in the background ends first: two writers would spoil the volume.
	if v.Target == "" {
		return v, true, nil
	}
	for n := range v.Disks {
		j, err := r.Catalog.Job(ctx, v.job(n))
		switch {
		case wire.HasCode(err, wire.CodeNotFound):
		case err != nil:
			return v, false, err
		case j.State == catalog.JobQueued:
			if err := r.Catalog.CancelJob(ctx, j.ID); err != nil && !wire.HasCode(err, wire.CodeConflict) {
				return v, false, err
			}
			return v, false, nil // it may have been leased meanwhile
		case j.State == catalog.JobLeased:
			return v, false, r.note(ctx, "an older restpoint is still being written to the standing volumes")
		}
	}
	v, err = r.changeWarm(ctx, r.row.Machine, func(v *warm) error { v.Target = ""; return nil })
	return v, err == nil, err
}

// syncWarm brings the standing volume of one disk to the launch's restpoint.
func (r *run) syncWarm(ctx context.Context, v *warm, n int, total *wire.Progress) (bool, error) {
	d := r.row.Disks[n]
	if d.Hydrated {
		addProgress(total, nil, d.Size, true)
		return true, nil
	}
	standing := v.Disks[v.find(d.ID, d.Size)].Volume
	vol, ok, err := r.attach(ctx, standing)
	if err != nil || !ok {
		return false, err
	}
	spec := catalog.JobSpec{ID: r.row.numbered("warm", n), Kind: wire.JobHydrate, Restpoint: r.row.Restpoint, Disk: &n, Volumes: []wire.Volume{vol}, Provider: r.row.Provider}
	j, done, err := r.job(ctx, spec, "copy the last difference")
	addProgress(total, j.Progress, d.Size, done)
	if err != nil || !done {
		return false, err
	}
	if err := r.p.DetachVolume(ctx, standing); err != nil {
		return false, err
	}
	return true, r.save(ctx, func(l *row) { l.Disks[n].Hydrated = true })
}

// cloneWarm makes the launch's volume of one disk, and reports whether it is there.
func (r *run) cloneWarm(ctx context.Context, v *warm, n int) (bool, error) {
	d := r.row.Disks[n]
	if d.Volume == "" {
		standing := v.Disks[v.find(d.ID, d.Size)].Volume
		from := providers.Source{Kind: providers.FromVolume, ID: standing}
		if r.row.Plan.CloneBySnapshot {
			ok, err := r.snapshot(ctx, n, standing, r.row.numbered("csnap", n), func(d *disk) *string { return &d.CloneSnapshot })
			if err != nil || !ok {
				return false, err
			}
			from = providers.Source{Kind: providers.FromSnapshot, ID: r.row.Disks[n].CloneSnapshot}
		}
		made, err := r.p.CreateVolume(ctx, providers.VolumeSpec{Meta: r.row.meta(r.System, r.row.numbered("v", n), n), From: from, Zone: r.row.Plan.Zone, Settings: r.row.Plan.VolumeSettings})
		if err != nil {
			return false, err
		}
		if err := r.save(ctx, func(l *row) { l.Disks[n].Volume = made.ID }); err != nil {
			return false, err
		}
		d.Volume = made.ID
	}
	vol, err := r.p.Volume(ctx, d.Volume)
	if err != nil {
		return false, err
	}
	if vol.State == providers.StateFailed {
		return false, refuse("volume %s failed at the provider: %s", d.Volume, vol.Reason)
	}
	return vol.State == providers.StateAvailable, nil
}

// leaveWarm gives standing volumes back whose launch is given up. A job of it may write a little longer.
func (r *run) leaveWarm(ctx context.Context) error {
	until := r.Clock.Now().Add(cancelledWrites)
	return r.giveBack(ctx, func(v *warm) { v.Restpoint, v.Rest = "", until })
}

func (r *run) giveBack(ctx context.Context, fn func(*warm)) error {
	err := r.DB.Update(ctx, func(w store.Writer) error {
		v, err := find[warm](w, tableWarm, r.row.Machine)
		if err != nil || v.User != r.row.ID {
			return err
		}
		v.User = ""
		fn(&v)
		return put(w, tableWarm, r.row.Machine, v)
	})
	if err == nil {
		r.ring()
	}
	return err
}
