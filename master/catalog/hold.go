package catalog

import (
	"context"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// SetHold asks a machine's agent for the last restpoint of a cutover, or changes what is asked, or, with nil, lets the source go. It may be repeated. A machine has one hold:
// CodeConflict while it has another's, while it is paused, and when its agent may not work. While there is one no session is opened but the hold's own.
func (c *Catalog) SetHold(ctx context.Context, id string, h *wire.Hold) error {
	if h != nil {
		wanted := *h
		if wanted.Timeout == 0 {
			wanted.Timeout = wire.Duration(wire.DefaultHold)
		}
		if wanted.ID == "" || len(wanted.ID) > wire.MaxNameLength || wanted.Timeout < 0 || wanted.Timeout > wire.Duration(wire.MaxHold) {
			return badRequest("a hold needs an id, and a timeout of at most %s", wire.MaxHold)
		}
		h = &wanted
	}
	now, changed := c.clock.Now(), false
	err := c.changeMachine(ctx, id, func(_ store.Writer, m *Machine) error {
		if changed = !same(m.Hold, h); !changed {
			return nil
		}
		switch {
		case h == nil:
		case m.Hold == nil:
			if err := m.access().admitted(); err != nil {
				return err
			}
			if m.Paused {
				return conflict("machine %s is paused", m.Name).WithNext("resume it first: openmigrate machines resume " + m.Name)
			}
			m.HoldSince, m.HoldReport = now, wire.HoldReport{ID: h.ID}
		case m.Hold.ID != h.ID:
			return conflict("machine %s is held for launch %s", m.Name, m.Hold.ID).
				WithNext("revert or finalize that first: openmigrate launch show " + m.Hold.ID)
		}
		m.Hold = h
		m.AssignmentVersion++
		return nil
	})
	if err == nil && changed {
		c.news.fire(id)
	}
	return err
}

func same(a, b *wire.Hold) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// admitsSession refuses every session but the hold's own: what a source that is held, or was, writes is not part of the history that the copy goes on from.
func (m *Machine) admitsSession(sync string) error {
	if m.Hold == nil || sync == m.Hold.ID {
		return nil
	}
	return conflict("machine %s is held for launch %s", m.Name, m.Hold.ID).WithNext("revert it to replicate again: openmigrate launch revert " + m.Hold.ID)
}

// holdStates are the words that an agent may say of a hold.
var holdStates = []string{wire.HoldStopping, wire.HoldSyncing, wire.HoldFrozen, wire.HoldReleased, wire.HoldLost, wire.HoldOff, wire.HoldFailed}

// takeHold keeps what an agent says of the hold that was set last, and nothing else.
func (m *Machine) takeHold(r *wire.HoldReport) {
	if r == nil || m.HoldReport.ID == "" || r.ID != m.HoldReport.ID || !slices.Contains(holdStates, r.State) {
		return
	}
	m.HoldReport = wire.HoldReport{ID: r.ID, State: r.State, Restpoint: cutTo(r.Restpoint, wire.MaxNameLength), Message: cut(r.Message)}
}

// held reports whether the machine writes nothing that counts: its source is being held, or its copy serves.
func (m *Machine) held() bool {
	if m.Hold == nil {
		return false
	}
	switch m.HoldReport.State {
	case wire.HoldLost, wire.HoldFailed, wire.HoldReleased:
		return m.Hold.Live
	}
	return true
}

// off reports whether nothing is to be heard of the agent: it said so, or need not be there any more.
func (m *Machine) off() bool {
	return m.Hold != nil && m.Hold.Live && (m.Hold.StopSource || m.HoldReport.State == wire.HoldOff)
}

// still reports whether the newest restpoint is what the disks hold, as far as that counts: the hold's own is there, and nothing was thawed.
func (m *Machine) still() bool {
	if !m.held() || m.LastRestpoint == "" || !slices.Contains(m.Syncs, SyncDone{ID: m.Hold.ID, Restpoint: m.LastRestpoint}) {
		return false
	}
	return m.Hold.Live || m.HoldReport.State == wire.HoldFrozen || m.HoldReport.State == wire.HoldOff
}

// diagnoseHold says what there is to do about a machine that is held.
func (m *Machine) diagnoseHold() (next, reason string) {
	show := "openmigrate launch show " + m.Hold.ID
	revert := "openmigrate launch revert " + m.Hold.ID
	since := " since " + m.HoldSince.UTC().Format(time.RFC3339)
	said := ""
	if m.HoldReport.Message != "" {
		said = ": " + m.HoldReport.Message
	}
	lost := m.HoldReport.State == wire.HoldLost || m.HoldReport.State == wire.HoldFailed || m.HoldReport.State == wire.HoldReleased
	switch {
	case m.Hold.Live && lost:
		return "see that nobody uses the source beside its copy, then finalize the launch, or: " + revert,
			"it was moved by launch " + m.Hold.ID + since + ", and its source is not held any more" + said
	case m.Hold.Live:
		return "finalize it when the copy is as it should be: openmigrate launch finalize " + m.Hold.ID + "; or: " + revert,
			"it was moved by launch " + m.Hold.ID + since
	case lost:
		return revert, "the hold for cutover " + m.Hold.ID + since + " came to nothing" + said
	}
	return "wait; follow it with: " + show, "held for cutover " + m.Hold.ID + since + said
}
