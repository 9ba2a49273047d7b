package launch

import (
	"context"
	"slices"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// syncing: the source stops its services, freezes, and makes the restpoint that the cutover brings up.
func syncing(ctx context.Context, r *run) (string, error) {
	m, err := r.Catalog.Machine(ctx, r.row.Machine)
	if err != nil {
		return "", err
	}
	hold, report := m.Hold, m.HoldReport
	if report.ID != r.row.ID {
		report = wire.HoldReport{}
	}
	if hold == nil || hold.ID != r.row.ID {
		if err := r.Catalog.SetHold(ctx, r.row.Machine, r.row.hold(false)); err != nil {
			return "", err
		}
	}
	r.show(m.Progress)
	began := r.row.step().Started
	switch waited := r.Clock.Now().Sub(began); {
	case report.State == wire.HoldFrozen:
		return r.synced(ctx, &m)
	case m.Replication(r.Clock.Now()) == catalog.Disconnected && report.State == "":
		return "", refuse("the source did not answer: its agent was not heard of since %s; look at it on its host with openmigrate-agent status", m.LastSeen.UTC().Format("15:04:05Z"))
	case waited > 2*r.row.HoldTimeout:
		return "", refuse("the source was not frozen in %s; what it does is shown by openmigrate machines show %s", roughly(waited), r.row.MachineName)
	}
	return "", r.note(ctx, "the source: %s", orElse(report.State, "was not heard of yet"))
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// synced takes the restpoint that was made for this launch: the one that the store says fulfils its wish, whatever the agent reports.
func (r *run) synced(ctx context.Context, m *catalog.Machine) (string, error) {
	at := slices.IndexFunc(m.Syncs, func(d catalog.SyncDone) bool { return d.ID == r.row.ID })
	if at < 0 {
		return "", r.note(ctx, "the source is frozen; its restpoint is not listed yet")
	}
	p, err := r.Catalog.Restpoint(ctx, m.Syncs[at].Restpoint)
	if err != nil {
		return "", err
	}
	if err := r.Catalog.KeepRestpoint(ctx, p.ID, r.row.ID); err != nil {
		return "", err
	}
	q := planner{s: r.Service, kind: r.row.Kind, machine: m, point: &p, template: r.row.Template}
	if err := q.make(ctx, r.row.ID); err != nil {
		return "", err
	}
	return wire.LaunchHydrating, r.save(ctx, func(l *row) {
		l.Restpoint, l.Plan = p.ID, q.plan
		l.setDisks(&p)
		l.say(r.Clock.Now(), "restpoint %s is of the frozen source (%s)", p.ID, p.Consistency)
	})
}

// hold is what the source is asked for.
func (r *row) hold(live bool) *wire.Hold {
	return &wire.Hold{ID: r.ID, StopSource: r.StopSource, Timeout: wire.Duration(r.HoldTimeout), Live: live}
}

// watchHold ends a cutover before its machine runs when the source is not held any more: what it writes from then on would be lost.
func (r *run) watchHold(ctx context.Context) error {
	m, err := r.Catalog.Machine(ctx, r.row.Machine)
	report := m.HoldReport
	if err != nil || report.ID != r.row.ID {
		return err
	}
	if report.State != r.row.Source {
		state := clean(report.State, 40)
		if err := r.save(ctx, func(l *row) {
			l.Source = state
			l.say(r.Clock.Now(), "the source: %s %s", state, report.Message)
			if l.State == wire.LaunchRunning && state == wire.HoldLost {
				l.say(r.Clock.Now(), "warning: the source runs again beside its copy; what it writes is in no restpoint of the cutover: shut it down, or revert")
			}
		}); err != nil {
			return err
		}
	}
	if r.row.State == wire.LaunchRunning {
		return nil
	}
	switch report.State {
	case wire.HoldLost, wire.HoldReleased:
		return refuse("the source was thawed before the machine ran, so its copy is out of date: %s; launch again, with a longer hold timeout if need be", clean(report.Message, 300))
	case wire.HoldFailed:
		return refuse("the source could not be frozen as asked: %s", clean(report.Message, 300))
	}
	return nil
}

// release lets the source go on. It is called only when no machine of the launch runs any more.
func (r *run) release(ctx context.Context) error {
	if !r.row.Held {
		return nil
	}
	m, err := r.Catalog.Machine(ctx, r.row.Machine)
	if wire.HasCode(err, wire.CodeNotFound) {
		return r.save(ctx, func(l *row) { l.Held = false })
	}
	if err != nil {
		return err
	}
	if m.Hold != nil && m.Hold.ID == r.row.ID {
		if err := r.Catalog.SetHold(ctx, r.row.Machine, nil); err != nil {
			return err
		}
	}
	return r.save(ctx, func(l *row) {
		l.Held = false
		if l.StopSource && l.Source == wire.HoldOff {
			l.say(r.Clock.Now(), "the source was powered off: start it by hand")
			return
		}
		l.say(r.Clock.Now(), "the source is let go: it thaws and starts its services")
	})
}
