package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
)

// finishCommit puts the object of a session in state committing, and lists its restpoint. Whoever calls it holds the session's lock in c.commits.
// It does nothing for a session in any other state.
func (c *Catalog) finishCommit(ctx context.Context, session string) error {
	var s Session
	var object []byte
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		if s, err = sessions.get(r, []byte(session)); err != nil || s.State != SessionCommitting {
			return err
		}
		b, err := r.Get(tableObjects, []byte(s.Restpoint))
		object = append([]byte(nil), b...)
		return err
	})
	if err != nil {
		return fmt.Errorf("read session %s: %w", session, err)
	}
	if s.State != SessionCommitting {
		return nil
	}
	// The name is the master's own random choice, so what may be there already is this object, from before a crash.
	if err := c.bucket.Put(ctx, format.RestpointName(s.Machine, s.Restpoint), object, nil); err != nil {
		return stagingProblem("put restpoint "+s.Restpoint, err)
	}
	if err := c.db.Update(ctx, func(w store.Writer) error { return c.list(w, session) }); err != nil {
		return fmt.Errorf("list restpoint %s: %w", s.Restpoint, err)
	}
	c.sessions.drop(session)
	c.progress.drop(session)
	c.news.fire(s.Machine)
	return nil
}

// list is the transaction in which a restpoint appears.
func (c *Catalog) list(w store.Writer, session string) error {
	s, err := sessions.get(w, []byte(session))
	if err != nil || s.State != SessionCommitting {
		return err
	}
	m, err := getMachine(w, s.Machine)
	if err != nil {
		return err
	}
	d := s.Decided
	if d.Restpoint.Sequence != m.Sequence+1 {
		return fmt.Errorf("restpoint %d of machine %s would follow %d", d.Restpoint.Sequence, m.ID, m.Sequence)
	}
	m.Pace, m.Interval = m.Pace.after(&s, &d.Restpoint, m.LastInstant), c.interval(&m)
	m.Late = m.late()
	m.Sequence, m.LastLink, m.Failure = d.Restpoint.Sequence, d.Link, ""
	m.newest(&d.Restpoint)
	if s.Sync != "" {
		m.Syncs = append(m.Syncs, SyncDone{ID: s.Sync, Restpoint: d.Restpoint.ID})
		m.Syncs = m.Syncs[max(0, len(m.Syncs)-maxSyncs):]
		if m.Sync == s.Sync {
			m.Sync = ""
			m.AssignmentVersion++
		}
	}
	if err := putMachine(w, &m); err != nil {
		return err
	}
	if err := restpoints.put(w, []byte(d.Restpoint.ID), d.Restpoint); err != nil {
		return err
	}
	if err := w.Put(tableMachineRest, under(m.ID, u64(m.Sequence)), []byte(d.Restpoint.ID)); err != nil {
		return err
	}
	return c.endSession(w, &s, SessionDone, nil)
}

// finishLive finishes a commit of the machine that was decided and not finished.
func (c *Catalog) finishLive(ctx context.Context, machine string) error {
	var s *Session
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		s, err = liveSession(r, machine)
		return err
	})
	if err != nil || s == nil || s.State != SessionCommitting {
		return err
	}
	unlock, err := c.commits.lock(ctx, s.ID)
	if err != nil {
		return err
	}
	defer unlock()
	return c.finishCommit(ctx, s.ID)
}

// finishCommits does so for all machines.
func (c *Catalog) finishCommits(ctx context.Context) error {
	var todo []string
	err := c.db.View(ctx, func(r store.Reader) error {
		todo = nil
		return r.Scan(tableLive, nil, nil, func(machine, id []byte) error {
			s, err := sessions.get(r, id)
			if s.State == SessionCommitting {
				todo = append(todo, string(machine))
			}
			return err
		})
	})
	errs := []error{err}
	for _, machine := range todo {
		errs = append(errs, c.finishLive(ctx, machine))
	}
	return errors.Join(errs...)
}
