package launch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// cleaning: a launch that failed gives back what it took, all but what somebody wants to look at.
func cleaning(ctx context.Context, r *run) (string, error) {
	if err := r.startUndoing(ctx); err != nil {
		return "", err
	}
	done, err := false, error(nil)
	if r.row.Keep {
		done, err = r.standStill(ctx)
	} else {
		done, err = r.remove(ctx)
	}
	if err != nil || !done {
		return "", err
	}
	if r.row.Keep {
		return wire.LaunchFailed, nil
	}
	return wire.LaunchFailed, r.letGo(ctx, &r.row)
}

// reverting: as if it had never been launched.
func reverting(ctx context.Context, r *run) (string, error) {
	if err := r.startUndoing(ctx); err != nil {
		return "", err
	}
	done, err := r.remove(ctx)
	if err != nil || !done {
		return "", err
	}
	return wire.LaunchReverted, r.letGo(ctx, &r.row)
}

// startUndoing lets a source go at once that no machine can be running beside, whatever the provider does, and ends the jobs.
func (r *run) startUndoing(ctx context.Context) error {
	if !slices.ContainsFunc(r.row.Steps, func(s wire.LaunchStep) bool { return s.Name == wire.LaunchStarting }) {
		if err := r.release(ctx); err != nil {
			return fmt.Errorf("let the source go: %w", err)
		}
	}
	return r.cancelJobs(ctx)
}

// cancelJobs ends what nodes still do for the launch.
func (r *run) cancelJobs(ctx context.Context) error {
	ids := []string{r.row.token("inspect"), r.row.token("measure"), r.row.token("convert"), r.row.token("serve")}
	for n := range r.row.Disks {
		ids = append(ids, r.row.numbered("hydrate", n), r.row.numbered("warm", n))
	}
	for _, id := range ids {
		err := r.Catalog.CancelJob(ctx, id)
		if err != nil && !wire.HasCode(err, wire.CodeNotFound) && !wire.HasCode(err, wire.CodeConflict) {
			return err
		}
	}
	return r.leaveWarm(ctx)
}

// remove takes away everything that carries the launch's name, the machine first: only when that is off the source may go on. What a create made that
// nobody heard of is found by its owner. It reports whether all is gone.
func (r *run) remove(ctx context.Context) (bool, error) {
	machines := 0
	if r.row.Instance != "" {
		if err := r.p.TerminateInstance(ctx, r.row.Instance); err != nil {
			return false, fmt.Errorf("remove the machine: %w", err)
		}
		i, err := r.p.Instance(ctx, r.row.Instance)
		switch {
		case errors.Is(err, providers.ErrNotFound) || err == nil && i.State == providers.StateTerminated:
		case err != nil:
			return false, err
		default:
			machines++
		}
	}
	report, left, err := r.sweepLaunch(ctx)
	if err != nil {
		return false, err
	}
	if machines += left; machines > 0 {
		return false, report.Err
	}
	if err := r.release(ctx); err != nil {
		return false, fmt.Errorf("let the source go: %w", err)
	}
	if report.Err != nil || len(report.Removed)+len(report.Left) > 0 {
		return false, report.Err
	}
	for _, d := range r.row.Disks {
		// List may lag behind.
		if d.Volume == "" {
			continue
		}
		if err := errors.Join(r.p.DetachVolume(ctx, d.Volume), r.p.DeleteVolume(ctx, d.Volume)); err != nil {
			return false, fmt.Errorf("remove volume %s: %w", d.Volume, err)
		}
	}
	return true, nil
}

// sweepLaunch removes once what a list shows of the launch. machines is how many of its machines were still in that.
func (r *run) sweepLaunch(ctx context.Context) (report providers.SweepReport, machines int, err error) {
	seen := &listed{Provider: r.p}
	report, err = providers.Sweep(ctx, seen, r.System, func(context.Context) (map[string]bool, error) {
		others := map[string]bool{}
		for _, x := range seen.all {
			if x.Owner.Launch != r.row.ID {
				others[x.Owner.Launch] = true
			} else if x.Kind == providers.KindInstance && x.State != providers.StateTerminated {
				machines++
			}
		}
		return others, nil
	})
	return report, machines, err
}

// standStill is what a failed launch that is kept does: its machine stays for somebody to look at. That of a cutover is stopped, because the source
// goes on.
func (r *run) standStill(ctx context.Context) (bool, error) {
	if r.row.Held && r.row.Instance != "" {
		i, err := r.p.Instance(ctx, r.row.Instance)
		switch {
		case errors.Is(err, providers.ErrNotFound):
		case err != nil:
			return false, err
		case i.State == providers.StateCreating, i.State == providers.StateRunning, i.State == providers.StateStopping:
			return false, r.p.StopInstance(ctx, i.ID, true)
		}
	}
	for _, d := range r.row.Disks {
		if d.Volume == "" {
			continue
		}
		if err := r.p.DetachVolume(ctx, d.Volume); err != nil {
			return false, err
		}
	}
	return true, r.release(ctx)
}

// listed remembers what List returned last.
type listed struct {
	providers.Provider
	all []providers.Resource
}

// List implements providers.Provider.
func (l *listed) List(ctx context.Context, system string) ([]providers.Resource, error) {
	all, err := l.Provider.List(ctx, system)
	l.all = all
	return all, err
}

// DeleteImage implements providers.ImageRemover for a provider that does.
func (l *listed) DeleteImage(ctx context.Context, id string) error {
	if images, ok := l.Provider.(providers.ImageRemover); ok {
		return images.DeleteImage(ctx, id)
	}
	return fmt.Errorf("delete image: %w: the provider has none", providers.ErrInvalid)
}
