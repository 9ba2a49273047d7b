package catalog

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Hello takes the first call of an agent's process. An identity that shows a generation that does not go up, or a second
// fingerprint, is used by two hosts: it is frozen, and both get CodeFrozen until an operator has looked.
func (c *Catalog) Hello(ctx context.Context, id string, h wire.Hello) (wire.HelloResponse, error) {
	// An agent that died while its commit ran hears of that restpoint. What fails here is tried again when a session is opened.
	_ = c.finishLive(ctx, id)
	now := c.clock.Now()
	answer := wire.HelloResponse{Now: now}
	var refused error
	err := c.db.Update(ctx, func(w store.Writer) error {
		answer, refused = wire.HelloResponse{Now: now}, nil
		m, err := getMachine(w, id)
		if err != nil {
			return err
		}
		if refused = m.access().admitted(); refused != nil {
			return nil
		}
		switch {
		case h.Generation <= m.Generation:
			m.Frozen = fmt.Sprintf("two agents use this identity: generation %d was shown after %d", h.Generation, m.Generation)
		case m.Fingerprint == "" || m.Fingerprint == h.Fingerprint:
		case h.Moved: // whoever has the key could show the old fingerprint as well: this is against mistakes
			m.addEvents(now, wire.Event{Time: now, Level: "warning", Code: "host-changed", Message: "it goes on with other hardware, as somebody on its host said"})
		default:
			m.Frozen = "two agents use this identity: it was shown by a second host"
		}
		if m.Frozen != "" {
			m.addEvents(now, wire.Event{Time: now, Level: "error", Code: "identity-frozen", Message: m.Frozen})
			refused = m.access().admitted()
			return putMachine(w, &m)
		}
		m.Generation, m.Fingerprint, m.AgentVersion, m.LastSeen = h.Generation, h.Fingerprint, h.Version, now
		if h.Inventory != nil {
			m.Inventory = h.Inventory
		}
		if err := putMachine(w, &m); err != nil {
			return err
		}
		s, err := liveSession(w, id)
		if err != nil {
			return err
		}
		if s != nil && s.State == SessionOpen && c.sessions.alive(s.ID) {
			answer.Session = s.ID
		}
		if m.LastRestpoint == "" {
			return nil
		}
		p, err := restpoints.get(w, []byte(m.LastRestpoint))
		if err != nil {
			return fmt.Errorf("read last restpoint of machine %s: %w", id, err)
		}
		answer.LastRestpoint, answer.LastRoots = p.ID, make(map[string]string, len(p.Disks))
		for _, d := range p.Disks {
			answer.LastRoots[d.ID] = d.Root.String()
		}
		return nil
	})
	if err := errors.Join(err, refused); err != nil {
		return wire.HelloResponse{}, err
	}
	c.seen.set(id, now)
	return answer, nil
}

// machineAccess is the part of a machine that every request of its agent is checked against, in a small row of its own: inventories are large.
type machineAccess struct {
	Name       string `json:"name"`
	Generation uint64 `json:"generation"`
	Frozen     string `json:"frozen,omitempty"`
	Revoked    bool   `json:"revoked,omitempty"`
	Removing   bool   `json:"removing,omitempty"`
}

var access = table[machineAccess]{"machine_access"}

func (m *Machine) access() *machineAccess {
	return &machineAccess{Name: m.Name, Generation: m.Generation, Frozen: m.Frozen, Revoked: m.Revoked, Removing: m.Removing}
}

// admitted returns CodeRevoked or CodeFrozen for a machine whose agent may not work.
func (m *machineAccess) admitted() error {
	switch {
	case m.Revoked:
		return wire.NewProblem(403, wire.CodeRevoked, "machine %s was revoked", m.Name).WithNext("enrol it again with a new token")
	case m.Frozen != "":
		return wire.NewProblem(403, wire.CodeFrozen, "machine %s is frozen: %s", m.Name, m.Frozen).
			WithNext("stop the copy, then unfreeze the machine, or remove it and enrol both anew")
	}
	return nil
}

// CheckGeneration is asked on every request of an agent: CodeRevoked, CodeFrozen, or CodeStale when another process of this
// identity said Hello later, or this one never did.
func (c *Catalog) CheckGeneration(ctx context.Context, id string, gen uint64) error {
	err := c.db.View(ctx, func(r store.Reader) error {
		m, err := access.get(r, []byte(id))
		if errors.Is(err, store.ErrNotFound) || err == nil && m.Removing {
			return notFound("there is no machine %.64q", id)
		}
		if err != nil {
			return err
		}
		if err := m.admitted(); err != nil {
			return err
		}
		if m.Generation != gen || gen == 0 {
			return wire.NewProblem(409, wire.CodeStale, "generation %d is not this machine's current one", gen).
				WithNext("start the agent again; if it happens again, two agents use one identity")
		}
		return nil
	})
	if err == nil {
		c.seen.set(id, c.clock.Now())
	}
	return err
}

// seenEvery is how often the row says that an agent was heard of, if it has nothing to say. In between only memory does (Catalog.seen): ten thousand agents
// that report every ten seconds would else write a thousand rows a second.
const seenEvery = time.Minute

// Report takes an agent's news.
func (c *Catalog) Report(ctx context.Context, id string, r wire.Report) error {
	now := c.clock.Now()
	if stale, err := c.saysNothing(ctx, id, now, &r); err != nil || stale {
		return err
	}
	return c.changeMachine(ctx, id, func(_ store.Writer, m *Machine) error {
		m.addEvents(now, r.Events...)
		m.takeReport(&r)
		m.LastSeen = now
		return nil
	})
}

// saysNothing reports whether a report is what the row says already, and notes in memory that the agent was heard of.
func (c *Catalog) saysNothing(ctx context.Context, id string, now time.Time, r *wire.Report) (same bool, err error) {
	if len(r.Events) > 0 || r.Progress != nil {
		return false, nil
	}
	err = c.db.View(ctx, func(tx store.Reader) error {
		m, err := getMachine(tx, id)
		if err != nil {
			return err
		}
		if d := now.Sub(m.LastSeen); d < 0 || d >= seenEvery {
			return nil
		}
		was := m
		m.takeReport(r)
		same = reflect.DeepEqual(&was, &m)
		return nil
	})
	if same {
		c.seen.set(id, now)
	}
	return same, err
}

// addEvents keeps the last maxEvents. An agent can neither fill the disk with them nor date them into the future.
func (m *Machine) addEvents(now time.Time, events ...wire.Event) {
	for _, e := range events[max(0, len(events)-maxEvents):] {
		if e.Time.IsZero() || e.Time.After(now) {
			e.Time = now
		}
		e.Level, e.Code, e.Message, e.Disk = cut(e.Level), cut(e.Code), cut(e.Message), cut(e.Disk)
		m.Events = append(m.Events, e)
	}
	m.Events = append([]wire.Event(nil), m.Events[max(0, len(m.Events)-maxEvents):]...)
}

// cut limits a text that an agent wrote.
func cut(s string) string { return cutTo(s, maxEventText) }

// cutTo limits it to n bytes, and as many more as broken runes take.
func cutTo(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "�")
}
