package launch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

const sweepEvery = 5 * time.Minute

// keepSweeping removes orphans at the start and every few minutes.
func (s *Service) keepSweeping(ctx context.Context) {
	for {
		for _, name := range s.providerNames() {
			p := s.Deps.Providers[name]
			if p == nil {
				continue
			}
			report, err := s.sweep(ctx, p, s.surelyDead)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil || report.Err != nil:
				s.Log.Warn("orphans could not be removed; it is tried again", "provider", name, "error", errors.Join(err, report.Err))
			case len(report.Removed) > 0:
				s.Log.Info("orphans removed", "provider", name, "count", len(report.Removed))
			}
		}
		timer := time.NewTimer(sweepEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// judge tells of an owner's name whether what it owns may stay.
type judge func(r store.Reader, launch string) (bool, error)

// surelyDead lets stay what is not known to be dead. Of a launch without a row nothing is known: rows are there before anything is made, so the
// database is an old one that was put back, and the launch may be somebody's cutover. Only an operator removes that.
func (s *Service) surelyDead(r store.Reader, launch string) (bool, error) {
	if machine, ok := warmMachine(launch); ok {
		return warmStays(r, machine)
	}
	l, err := get[row](r, tableLaunches, launch)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	return l.owns(), err
}

// known lets stay what belongs to a launch that is known and lives.
func (s *Service) known(r store.Reader, launch string) (bool, error) {
	if machine, ok := warmMachine(launch); ok {
		return warmStays(r, machine)
	}
	l, err := get[row](r, tableLaunches, launch)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return l.owns(), err
}

// live asks the judge about every owner in a list, at a moment after the list was made.
func (s *Service) live(seen *listed, may judge) func(context.Context) (map[string]bool, error) {
	return func(ctx context.Context) (map[string]bool, error) {
		stays := map[string]bool{}
		err := s.DB.View(ctx, func(r store.Reader) error {
			for _, x := range seen.all {
				ok, err := may(r, x.Owner.Launch)
				if err != nil {
					return err
				}
				stays[x.Owner.Launch] = ok
			}
			return nil
		})
		return stays, err
	}
}

func (s *Service) sweep(ctx context.Context, p providers.Provider, may judge) (providers.SweepReport, error) {
	seen := &listed{Provider: p}
	return providers.Sweep(ctx, seen, s.System, s.live(seen, may))
}

// Orphans lists what is at a provider under this system's name and belongs to no launch that is known and lives.
func (s *Service) Orphans(ctx context.Context, provider string) ([]wire.Orphan, error) {
	p, err := s.provider(provider)
	if err != nil {
		return nil, err
	}
	seen := &listed{Provider: p}
	all, err := providers.Orphans(ctx, seen, s.System, s.live(seen, s.known))
	return orphans(all), tellTemporary(err)
}

// Sweep removes what Orphans lists, once, and returns what it removed. What is still in use goes with the next one.
func (s *Service) Sweep(ctx context.Context, provider string) ([]wire.Orphan, error) {
	p, err := s.provider(provider)
	if err != nil {
		return nil, err
	}
	report, err := s.sweep(ctx, p, s.known)
	if err = errors.Join(err, report.Err); err != nil {
		err = tellTemporary(fmt.Errorf("sweep: %w", err))
	}
	return orphans(report.Removed), err
}

func orphans(all []providers.Resource) []wire.Orphan {
	list := make([]wire.Orphan, 0, len(all))
	for _, x := range all {
		list = append(list, wire.Orphan{Kind: string(x.Kind), ID: x.ID, Name: clean(x.Name, wire.MaxNameLength), Launch: clean(x.Owner.Launch, wire.MaxNameLength), Created: x.Created})
	}
	return list
}
