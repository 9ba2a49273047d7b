package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// SessionState is where a session stands:
//
//	          commit: everything resolves     object is in the bucket
//	open ───────────────────────────► committing ───────────────────► done
//	 │ │                                (never goes back: it is finished by
//	 │ └─ abort ─► failed                whoever comes next, even after a crash)
//	 └─ lease ran out, or the machine opened another ─► expired
//
// Only a session that is open may offer, announce and commit packs. All but done and committing are fenced.
type SessionState string

// States of sessions.
const (
	SessionOpen       SessionState = "open"
	SessionCommitting SessionState = "committing"
	SessionDone       SessionState = "done"
	SessionFailed     SessionState = "failed"
	SessionExpired    SessionState = "expired"
)

// Session is a lease of one machine to make one restpoint.
type Session struct {
	ID          string             `json:"id"`
	Number      uint64             `json:"number"` // counts sessions of all machines
	Project     string             `json:"project"`
	Machine     string             `json:"machine"`
	State       SessionState       `json:"state"`
	Restpoint   string             `json:"restpoint"` // that it makes
	Parent      string             `json:"parent,omitempty"`
	Sync        string             `json:"sync,omitempty"`
	Disks       []wire.SessionDisk `json:"disks"`
	Opened      time.Time          `json:"opened"`
	Skew        *time.Duration     `json:"skew,omitempty"` // of the master's clock against the agent's; nil: unknown
	Ended       time.Time          `json:"ended"`
	Outstanding int                `json:"outstanding"`       // packs announced and not committed
	Progress    wire.Progress      `json:"progress"`          // when it ended
	Failure     *wire.Failure      `json:"failure,omitempty"` // failed
	Decided     *decision          `json:"decided,omitempty"` // committing and done
}

var sessions = table[Session]{"sessions"}

// keepSessions is how many ended sessions of a machine are kept for people to look at, and for agents whose
// acknowledgement was lost.
const keepSessions = 16

// liveSession returns a machine's session that is open or committing; nil when there is none.
func liveSession(r store.Reader, machine string) (*Session, error) {
	id, err := r.Get(tableLive, []byte(machine))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := sessions.get(r, id)
	if err != nil {
		return nil, fmt.Errorf("read live session of machine %s: %w", machine, err)
	}
	return &s, nil
}

// getSession returns a machine's session: CodeNotFound for another's.
func getSession(r store.Reader, machine, id string) (Session, error) {
	s, err := sessions.get(r, []byte(id))
	if errors.Is(err, store.ErrNotFound) || err == nil && s.Machine != machine {
		return s, notFound("machine %s has no session %.64q", machine, id).WithNext("open a new one")
	}
	return s, err
}

// openSession returns a session that may work; CodeFenced for any other. Every call of an agent goes through here, in the
// transaction in which it reads or writes.
func (c *Catalog) openSession(r store.Reader, machine, id string) (Session, error) {
	s, err := getSession(r, machine, id)
	if err != nil {
		return s, err
	}
	if s.State != SessionOpen {
		return s, fenced("session %s is %s", id, s.State)
	}
	if !c.sessions.alive(id) {
		return s, fenced("session %s was not renewed in time", id)
	}
	return s, nil
}

// endSession moves a session to an end in which it has made nothing. Its pins are cleaned up later: a collector looks only at those of
// live sessions.
func (c *Catalog) endSession(w store.Writer, s *Session, state SessionState, f *wire.Failure) error {
	s.State, s.Ended, s.Failure = state, c.clock.Now(), f
	s.Progress, _ = c.progress.get(s.ID)
	if err := w.Put(tableDirty, []byte(s.ID), nil); err != nil {
		return err
	}
	if err := w.Delete(tableLive, []byte(s.Machine)); err != nil {
		return err
	}
	return sessions.put(w, []byte(s.ID), *s)
}

// RenewSession keeps a session alive and notes its progress.
func (c *Catalog) RenewSession(ctx context.Context, machine, session string, p wire.Progress) (wire.SessionLease, error) {
	var moved *Moved
	err := c.db.View(ctx, func(r store.Reader) error {
		s, err := getSession(r, machine, session)
		if err != nil {
			return err
		}
		if s.State == SessionCommitting || s.State == SessionDone {
			return nil // the agent may not know yet
		}
		if _, err := c.openSession(r, machine, session); err != nil {
			return err
		}
		if !c.sessions.renew(session) {
			return fenced("session %s was not renewed in time", session)
		}
		p.Phase, p.Message = cut(p.Phase), cut(p.Message)
		if c.progress.set(session, p) {
			moved = &Moved{Kind: "session", ID: session, Project: s.Project, Machine: machine}
		}
		return nil
	})
	if err != nil {
		return wire.SessionLease{}, err
	}
	if moved != nil {
		c.opt.Moved(*moved)
	}
	c.seen.set(machine, c.clock.Now())
	return c.sessionLease(), nil
}

// AbortSession ends a session that can not be finished. It is idempotent.
func (c *Catalog) AbortSession(ctx context.Context, machine, session string, f wire.Failure) error {
	now := c.clock.Now()
	if len(f.Events) == 0 { // else they say why
		f.Events = []wire.Event{{Level: "error", Code: f.Code, Message: "session aborted: " + f.Message}}
	}
	err := c.db.Update(ctx, func(w store.Writer) error {
		s, err := getSession(w, machine, session)
		if err != nil {
			return err
		}
		switch s.State {
		case SessionFailed, SessionExpired:
			return nil
		case SessionCommitting, SessionDone:
			return conflict("session %s is %s", session, s.State)
		}
		m, err := getMachine(w, machine)
		if err != nil {
			return err
		}
		m.addEvents(now, f.Events...)
		if err := putMachine(w, &m); err != nil {
			return err
		}
		return c.endSession(w, &s, SessionFailed, &wire.Failure{Code: cut(f.Code), Message: cut(f.Message)})
	})
	if err != nil {
		return err
	}
	c.sessions.drop(session)
	c.progress.drop(session)
	return nil
}

// Session returns a session for people to look at; CodeNotFound.
func (c *Catalog) Session(ctx context.Context, id string) (Session, error) {
	var s Session
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		s, err = sessions.get(r, []byte(id))
		if errors.Is(err, store.ErrNotFound) {
			return notFound("there is no session %.64q", id)
		}
		return err
	})
	if p, ok := c.progress.get(id); ok && err == nil {
		s.Progress = p
	}
	return s, err
}

// Sessions returns a machine's sessions that are remembered, oldest first.
func (c *Catalog) Sessions(ctx context.Context, machine string) ([]Session, error) {
	var all []Session
	err := c.db.View(ctx, func(r store.Reader) error {
		all = nil
		return r.Scan(tableMachineSession, under(machine, nil), nil, func(_, id []byte) error {
			s, err := sessions.get(r, id)
			all = append(all, s)
			return err
		})
	})
	for i := range all {
		if p, ok := c.progress.get(all[i].ID); ok {
			all[i].Progress = p
		}
	}
	return all, err
}
