package launch

import (
	"context"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Life is where a machine is on its way to the target (wire.Life…), and what to do next about it.
type Life struct {
	State    string
	NextStep string
	Test     *wire.TestEnd  // the last; nil: it was never tested
	Warm     *wire.WarmInfo // its standing volumes; nil: it has none
}

// Life says so of machines, by their ids:
//
//	not-ready ─► ready-to-test ⇄ testing ─► ready-for-cutover ─► cutting-over ─► live ─► finalized
//	                                              ▲                   │           │ revert
//	                                              └────── failed ─────┘           ▼
//	                                                                         rolled-back ─► testing, cutting-over
//
// It is computed from the launches that are under way and what is remembered of those that are over, never stored.
func (s *Service) Life(ctx context.Context, machines []catalog.Machine) (map[string]Life, error) {
	all := make(map[string]Life, len(machines))
	rows := map[string]warm{}
	err := s.DB.View(ctx, func(r store.Reader) error {
		tests := map[string]string{}
		err := scanActive(r, func(id string, a active) {
			if a.Kind == wire.LaunchTest {
				tests[a.Machine] = id
			}
		})
		if err != nil {
			return err
		}
		for i := range machines {
			h, err := find[history](r, tableHistory, machines[i].ID)
			if err != nil {
				return err
			}
			l := h.life(&machines[i], tests[machines[i].ID])
			l.Test = h.Test
			all[machines[i].ID] = l
			if rows[machines[i].ID], err = find[warm](r, tableWarm, machines[i].ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range machines {
		m := &machines[i]
		v := rows[m.ID]
		l := all[m.ID]
		if info, have := v.show(m, s.Clock.Now()); have {
			s.follow(ctx, &v, info)
			l.Warm = info
			all[m.ID] = l
		}
	}
	return all, nil
}

// What became of a machine's last cutover: history.CutoverEnd.
const (
	cutoverGoing      = "going"
	cutoverLive       = "live"
	cutoverUndone     = "undone" // before it was live
	cutoverRolledBack = "rolled-back"
	cutoverFinalized  = "finalized"
)

func (h *history) life(m *catalog.Machine, test string) Life {
	launch := func(command string) string { return "openmigrate launch " + command }
	switch {
	case h.CutoverEnd == cutoverFinalized:
		return Life{State: wire.LifeFinalized, NextStep: "none"}
	case h.CutoverEnd == cutoverLive:
		return Life{State: wire.LifeLive, NextStep: launch("finalize "+h.Cutover) + ", or go back: " + launch("revert "+h.Cutover)}
	case h.CutoverEnd == cutoverGoing:
		return Life{State: wire.LifeCuttingOver, NextStep: "wait; follow it with: " + launch("show "+h.Cutover)}
	case test != "":
		return Life{State: wire.LifeTesting, NextStep: "look at it, then: " + launch("revert "+test)}
	case m.LastRestpoint == "":
		return Life{State: wire.LifeNotReady, NextStep: "wait for its first restpoint, or: openmigrate machines sync " + m.Name}
	case h.CutoverEnd == cutoverRolledBack:
		return Life{State: wire.LifeRolledBack, NextStep: "find out what was wrong, then again: " + launch("test "+m.Name)}
	case h.Failed != "":
		return Life{State: wire.LifeReadyToTest, NextStep: "its last test failed, see " + launch("show "+h.Failed) + ", then: " + launch("test "+m.Name)}
	case h.Tested != "":
		return Life{State: wire.LifeReadyForCutover, NextStep: launch("cutover " + m.Name)}
	}
	return Life{State: wire.LifeReadyToTest, NextStep: launch("test " + m.Name)}
}

// remember notes in the machine's history what a launch has come to.
func remember(w store.Writer, l *row) error {
	h, err := find[history](w, tableHistory, l.Machine)
	if err != nil {
		return err
	}
	if l.State == wire.LaunchRunning {
		if h.Took == nil {
			h.Took = map[string]time.Duration{}
		}
		h.Took[l.pace()] = l.Took
	}
	if l.Kind == wire.LaunchTest {
		switch {
		case l.State == wire.LaunchRunning:
			h.Test = &wire.TestEnd{Launch: l.ID, Passed: true, Time: l.Ran}
			if h.Tested, h.Failed = l.ID, ""; h.CutoverEnd == cutoverRolledBack {
				h.CutoverEnd = cutoverUndone // it was found out what was wrong
			}
		case l.Failure != nil && h.Tested != l.ID:
			if h.Failed != l.ID {
				h.Test = &wire.TestEnd{Launch: l.ID, Time: l.step().Started}
			}
			h.Failed = l.ID
		}
		return put(w, tableHistory, l.Machine, h)
	}
	end := cutoverGoing
	switch {
	case l.State == wire.LaunchFinalized:
		end = cutoverFinalized
	case l.State == wire.LaunchRunning:
		end = cutoverLive
	case l.over() && !l.Ran.IsZero():
		end = cutoverRolledBack
	case l.over():
		end = cutoverUndone
	}
	h.Cutover, h.CutoverEnd = l.ID, end
	if end == cutoverRolledBack {
		h.Tested = "" // that test did not tell
	}
	return put(w, tableHistory, l.Machine, h)
}

func (s *Service) historyOf(ctx context.Context, machine string) (history, error) {
	var h history
	err := s.DB.View(ctx, func(r store.Reader) (err error) {
		h, err = find[history](r, tableHistory, machine)
		return err
	})
	return h, err
}

// warn says what a cutover might run into.
func (h *history) warn(q *planner) {
	switch {
	case h.Failed != "":
		q.warn("the last test of machine %s failed: openmigrate launch show %s", q.machine.Name, h.Failed)
	case h.Tested == "":
		q.warn("machine %s was never tested: openmigrate launch test %s", q.machine.Name, q.machine.Name)
	}
}

func scanActive(r store.Reader, fn func(id string, a active)) error {
	return r.Scan(tableActive, nil, nil, func(k, _ []byte) error {
		a, err := get[active](r, tableActive, string(k))
		if err == nil {
			fn(string(k), a)
		}
		return err
	})
}
