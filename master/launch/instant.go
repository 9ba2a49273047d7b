package launch

import (
	"context"
	"fmt"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// Instant start: a node shows the disks, converted, and the machine runs on volumes that read from there what was not copied yet.
//
//	serve job ─► views ─► lazy volumes ─► machine runs ─► fill ─► no volume is lazy ─► serve job cancelled

// serveJob is the job that shows the disks for as long as a volume needs them.
func (r *run) serveJob() catalog.JobSpec {
	spec := catalog.JobSpec{ID: r.row.token("serve"), Kind: wire.JobServe, Restpoint: r.row.Restpoint, Provider: r.row.Provider}
	if !r.row.Template.AsIs {
		spec.Convert = r.row.conversion()
		spec.Convert.Mark = r.mark()
	}
	return spec
}

// serve is the state hydrating of an instant start.
func (r *run) serve(ctx context.Context) (string, error) {
	if len(r.row.Views) == 0 {
		j, done, err := r.job(ctx, r.serveJob(), "show the disks")
		if err != nil {
			return "", err
		}
		r.show(j.Progress)
		switch {
		case done:
			return "", refuse("the node stopped to show the disks: %s", message(&j))
		case j.Progress == nil || len(j.Progress.Views) == 0:
			return "", nil
		case len(j.Progress.Views) != len(r.row.Disks):
			return "", refuse("the node shows %d disks of %d", len(j.Progress.Views), len(r.row.Disks))
		}
		if err := r.keepReport(ctx, j.ID); err != nil {
			return "", err
		}
		views := j.Progress.Views
		if err := r.save(ctx, func(l *row) { l.Views, l.ServedBy = views, j.Attempts }); err != nil {
			return "", err
		}
	}
	lazy, ok := r.p.(providers.LazyVolumes)
	if !ok {
		return "", refuse("provider %s cannot start a machine before its data is there; launch without --instant", r.row.Provider)
	}
	ready := true
	for n, d := range r.row.Disks {
		if d.Volume == "" {
			v, err := lazy.CreateLazyVolume(ctx, r.row.volume(r.System, n), providers.View{Socket: r.row.Views[n].Socket, Export: r.row.Views[n].Export})
			if err != nil {
				return "", fmt.Errorf("disk %d: %w", n, err)
			}
			if err := r.save(ctx, func(l *row) { l.Disks[n].Volume = v.ID }); err != nil {
				return "", err
			}
			d.Volume = v.ID
		}
		v, err := r.p.Volume(ctx, d.Volume)
		if err != nil {
			return "", err
		}
		if v.State == providers.StateFailed {
			return "", refuse("volume %s failed at the provider: %s", d.Volume, v.Reason)
		}
		ready = ready && v.State == providers.StateAvailable
	}
	if !ready {
		return "", nil
	}
	return wire.LaunchStarting, nil
}

func message(j *catalog.Job) string {
	if j.Result != nil && j.Result.Message != "" {
		return j.Result.Message
	}
	return "it does not say why"
}

// served refuses to go on when nobody shows any more what the machine still reads. Another node, or the same one started again, shows another conversion of
// the same restpoint: half of one and half of the other is no disk.
func (r *run) served(ctx context.Context) error {
	if !r.row.Template.Instant || r.row.Filled {
		return nil
	}
	j, err := r.Catalog.Job(ctx, r.row.token("serve"))
	switch {
	case wire.HasCode(err, wire.CodeNotFound):
	case err != nil:
		return err
	case j.State == catalog.JobLeased && j.Attempts == r.row.ServedBy:
		return nil
	}
	why := message(&j)
	if j.Failure != nil {
		why = j.Failure.Message
	}
	return &refusal{
		reason: fmt.Sprintf("the node stopped to show disks that the machine still needs: %s", why),
		cause:  "what was not copied yet gives I/O errors since then. Launch again; without --instant a machine does not depend on a node",
		ends:   true,
	}
}

// fill copies what the machine still reads from elsewhere, while it runs, and ends the serve job when nothing is left.
func (r *run) fill(ctx context.Context) error {
	if r.row.Filled {
		return nil
	}
	lazy, ok := r.p.(providers.LazyVolumes)
	if !ok {
		return refuse("provider %s cannot fill volumes", r.row.Provider)
	}
	var left []string
	for _, d := range r.row.Disks {
		v, err := r.p.Volume(ctx, d.Volume)
		if err != nil {
			return err
		}
		if v.Lazy {
			left = append(left, v.ID)
		}
	}
	if len(left) > 0 {
		// What is there already needs no node: only with something left does it matter whether one is there.
		if err := r.served(ctx); err != nil {
			return err
		}
		for _, id := range left {
			if err := lazy.FillVolume(ctx, id); err != nil {
				return err
			}
		}
	}
	r.show(&wire.Progress{Phase: "copying behind the running machine", Total: int64(len(r.row.Disks)), Done: int64(len(r.row.Disks) - len(left))})
	if len(left) > 0 {
		return nil
	}
	if err := r.Catalog.CancelJob(ctx, r.row.token("serve")); err != nil && !wire.HasCode(err, wire.CodeNotFound) && !wire.HasCode(err, wire.CodeConflict) {
		return err
	}
	return r.save(ctx, func(l *row) {
		l.Filled = true
		l.say(r.Clock.Now(), "all data is there: the machine needs nothing of staging any more")
	})
}
