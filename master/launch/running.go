package launch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// running: a test until its deadline, a cutover until it is finalized. The source of a cutover hears that its copy serves.
func running(ctx context.Context, r *run) (string, error) {
	r.pause = max(r.pause, min(quietPause, 10*r.Pause))
	if r.row.Held {
		m, err := r.Catalog.Machine(ctx, r.row.Machine)
		if err != nil {
			return "", err
		}
		if m.Hold != nil && m.Hold.ID == r.row.ID && !m.Hold.Live {
			return "", r.Catalog.SetHold(ctx, r.row.Machine, r.row.hold(true))
		}
	}
	if r.row.Finalize != "" {
		if done, err := r.dropScaffold(ctx); err != nil || !done {
			return "", err
		}
		return wire.LaunchFinalized, r.finalize(ctx)
	}
	if !r.row.Deadline.IsZero() {
		left := r.row.Deadline.Sub(r.Clock.Now())
		if left <= 0 {
			return "", r.save(ctx, func(l *row) { l.Revert = "its deadline" })
		}
		r.pause = min(r.pause, left)
	}
	if r.row.Template.Instant && !r.row.Filled {
		return "", r.fill(ctx)
	}
	i, err := r.p.Instance(ctx, r.row.Instance)
	switch {
	case errors.Is(err, providers.ErrNotFound):
		return "", r.note(ctx, "the machine is gone: somebody removed it at the provider")
	case err != nil:
		return "", err
	case i.State == providers.StateRunning:
		return "", r.note(ctx, "")
	}
	return "", r.note(ctx, "the machine is %s: %s", i.State, orUnknown(i.Reason))
}

// finalize gives the machine away: nothing of it is ever removed by this master. The source stays held, so that it does not replicate into the history
// that its copy goes on from.
func (r *run) finalize(ctx context.Context) error {
	if r.row.Held && r.row.Source != wire.HoldOff {
		if err := r.save(ctx, func(l *row) {
			l.say(r.Clock.Now(), "the source was not powered off: shut it down before its hold ends, or it serves beside its copy")
		}); err != nil {
			return err
		}
	}
	return r.letGo(ctx, &r.row)
}

// dropScaffold removes what a machine that was made from snapshots was made of, and does not need: the volumes that were hydrated, their snapshots, images. It
// reports whether all of that is gone, or cannot go, which the log says: nothing of it is worth keeping a machine from being finalized.
func (r *run) dropScaffold(ctx context.Context) (bool, error) {
	if !r.row.Plan.FromSnapshots {
		return true, nil
	}
	all, err := r.p.List(ctx, r.System)
	if errors.Is(err, providers.ErrTryAgain) || ctx.Err() != nil {
		return false, ctx.Err()
	}
	again, stuck := false, err
	for _, x := range all {
		if x.Owner.Launch != r.row.ID || !r.scaffold(&x) {
			continue
		}
		switch err := r.dropOne(ctx, &x); {
		case errors.Is(err, providers.ErrTryAgain):
			again = true
		case err != nil:
			stuck = errors.Join(stuck, err)
		}
	}
	if again || ctx.Err() != nil {
		return false, ctx.Err()
	}
	if stuck != nil {
		r.Log.Warn("what a finalized machine was made of is left", "launch", r.row.ID, "error", stuck)
		return true, r.save(ctx, func(l *row) {
			l.say(r.Clock.Now(), "what the machine was made of could not be removed: %v; it costs money, and is the machine's no more", stuck)
		})
	}
	return true, nil
}

// scaffold is false for what the machine needs. Its disks are other volumes than those that were hydrated, whose ids are known.
func (r *run) scaffold(x *providers.Resource) bool {
	switch x.Kind {
	case providers.KindSnapshot, providers.KindImage:
		return true
	case providers.KindVolume:
		return slices.ContainsFunc(r.row.Disks, func(d disk) bool { return d.Volume == x.ID })
	}
	return false
}

func (r *run) dropOne(ctx context.Context, x *providers.Resource) error {
	switch x.Kind {
	case providers.KindSnapshot:
		return r.p.DeleteSnapshot(ctx, x.ID)
	case providers.KindImage:
		if images, ok := r.p.(providers.ImageRemover); ok {
			return images.DeleteImage(ctx, x.ID)
		}
		return nil
	}
	if err := r.p.DetachVolume(ctx, x.ID); err != nil {
		return err
	}
	return r.p.DeleteVolume(ctx, x.ID)
}

// keepEvidence stores what the machine's console and screen show now, as far as they can be had.
func (r *run) keepEvidence(ctx context.Context) []byte {
	if r.row.Instance == "" {
		return nil
	}
	p, err := r.provider(r.row.Provider)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, consoleBudget)
	defer cancel()
	console, err := p.Console(ctx, r.row.Instance)
	if err != nil {
		console = nil
	}
	console = console[max(0, len(console)-providers.ConsoleLimit):]
	var screen []byte
	if r.row.Plan.Screenshot {
		if screen, err = p.Screenshot(ctx, r.row.Instance); err != nil || checkPNG(screen) != nil {
			screen = nil
		}
	}
	if len(console) == 0 && len(screen) == 0 {
		return nil
	}
	l, err := r.change(ctx, r.row.ID, func(w store.Writer, l *row) error {
		if len(console) > 0 {
			if err := w.Put(tableConsoles, []byte(l.ID), console); err != nil {
				return err
			}
		}
		if len(screen) == 0 {
			return nil
		}
		l.Screen = true
		return w.Put(tableScreens, []byte(l.ID), screen)
	})
	if err != nil {
		r.Log.Warn("console and screenshot of a launch could not be kept", "launch", r.row.ID, "error", err)
		return console
	}
	r.row = l
	return console
}

// Console returns the end of a machine's console: as it is now while it runs, else as it was last.
func (s *Service) Console(ctx context.Context, id string) ([]byte, error) {
	l, err := s.row(ctx, id)
	if err != nil {
		return nil, err
	}
	if p, perr := s.provider(l.Provider); perr == nil && l.Instance != "" && l.owns() {
		ctx, cancel := context.WithTimeout(ctx, consoleBudget)
		defer cancel()
		if b, err := p.Console(ctx, l.Instance); err == nil {
			return b[max(0, len(b)-providers.ConsoleLimit):], nil
		}
	}
	return s.blob(ctx, tableConsoles, id, "console")
}

// Screenshot returns a machine's screen as PNG: as it is now while it runs, else as it was last.
func (s *Service) Screenshot(ctx context.Context, id string) ([]byte, error) {
	l, err := s.row(ctx, id)
	if err != nil {
		return nil, err
	}
	if p, perr := s.provider(l.Provider); perr == nil && l.Instance != "" && l.owns() && l.Plan.Screenshot {
		ctx, cancel := context.WithTimeout(ctx, consoleBudget)
		defer cancel()
		if b, err := p.Screenshot(ctx, l.Instance); err == nil && checkPNG(b) == nil {
			return b, nil
		}
	}
	return s.blob(ctx, tableScreens, id, "screenshot")
}

func (s *Service) row(ctx context.Context, id string) (row, error) {
	var l row
	err := s.DB.View(ctx, func(r store.Reader) (err error) {
		l, err = getRow(r, id)
		return err
	})
	return l, err
}

func (s *Service) blob(ctx context.Context, table, id, what string) ([]byte, error) {
	var b []byte
	err := s.DB.View(ctx, func(r store.Reader) error {
		v, err := r.Get(table, []byte(id))
		b = append(b, v...)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, wire.NewProblem(404, wire.CodeNotFound, "launch %s has no %s", id, what).WithNext(fmt.Sprintf("it has one once its machine ran: openmigrate launch show %s", id))
	}
	return b, err
}
