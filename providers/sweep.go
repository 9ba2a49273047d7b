package providers

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// SweepReport is what a Sweep found.
type SweepReport struct {
	Removed []Resource // asked to go
	Left    []Resource // orphans that cannot go yet, mostly because another one uses them: sweep again
	Err     error      // joined, of those that could not be removed for any other reason
}

// Orphans lists what belongs to system and to no launch that lives. live is asked after the list was made, and must know a launch before
// anything is created for it: so what is begun while Orphans runs is never taken for an orphan.
func Orphans(ctx context.Context, p Provider, system string, live func(context.Context) (map[string]bool, error)) ([]Resource, error) {
	all, err := p.List(ctx, system)
	if err != nil {
		return nil, fmt.Errorf("find orphans: %w", err)
	}
	alive, err := live(ctx)
	if err != nil {
		return nil, fmt.Errorf("find orphans: ask which launches live: %w", err)
	}
	var orphans []Resource
	for _, r := range all {
		if r.Owner.System == system && !alive[r.Owner.Launch] {
			orphans = append(orphans, r)
		}
	}
	return orphans, nil
}

// Sweep removes the orphans once: instances first, then images, volumes and snapshots. It waits for nothing; what was still in use is in Left.
func Sweep(ctx context.Context, p Provider, system string, live func(context.Context) (map[string]bool, error)) (SweepReport, error) {
	var report SweepReport
	orphans, err := Orphans(ctx, p, system, live)
	if err != nil {
		return report, err
	}
	for _, kind := range []Kind{KindInstance, KindImage, KindVolume, KindSnapshot} {
		for _, r := range orphans {
			if r.Kind != kind {
				continue
			}
			switch err := remove(ctx, p, r); {
			case err == nil:
				report.Removed = append(report.Removed, r)
			case errors.Is(err, ErrConflict), errors.Is(err, ErrTryAgain):
				report.Left = append(report.Left, r)
			default:
				report.Left = append(report.Left, r)
				report.Err = errors.Join(report.Err, fmt.Errorf("remove %s %s: %w", r.Kind, r.ID, err))
			}
			if ctx.Err() != nil {
				return report, ctx.Err()
			}
		}
	}
	return report, nil
}

// SweepAll sweeps until no orphan is listed any more, or ctx ends. Its report holds the last pass's Left and all that was removed.
func SweepAll(ctx context.Context, p Provider, system string, live func(context.Context) (map[string]bool, error), pause time.Duration) (SweepReport, error) {
	removed := map[string]Resource{}
	report, err := Await(ctx, pause, func(ctx context.Context) (SweepReport, error) { return Sweep(ctx, p, system, live) },
		func(r SweepReport) (bool, error) {
			for _, x := range r.Removed {
				removed[x.ID] = x
			}
			return len(r.Removed)+len(r.Left) == 0, nil
		})
	report.Removed = nil
	for _, x := range removed {
		report.Removed = append(report.Removed, x)
	}
	if err != nil {
		err = errors.Join(err, report.Err)
	}
	return report, err
}

func remove(ctx context.Context, p Provider, r Resource) error {
	switch r.Kind {
	case KindInstance:
		return p.TerminateInstance(ctx, r.ID)
	case KindVolume:
		// A writer of a launch that is dead is dead too, or fenced from its job.
		if err := p.DetachVolume(ctx, r.ID); err != nil {
			return err
		}
		return p.DeleteVolume(ctx, r.ID)
	case KindSnapshot:
		return p.DeleteSnapshot(ctx, r.ID)
	case KindImage:
		if images, ok := p.(ImageRemover); ok {
			return images.DeleteImage(ctx, r.ID)
		}
	}
	return fmt.Errorf("%w: unknown kind %q", ErrInvalid, r.Kind)
}
