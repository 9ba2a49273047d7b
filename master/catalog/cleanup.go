package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

const (
	cleanBatch = 1024 // pins that are removed in one transaction
	proveBatch = 256  // packs of one prove job: as many as one request for URLs may name
)

// expireSessions fences the sessions whose lease ran out. A commit that was decided does not expire.
func (c *Catalog) expireSessions(ctx context.Context) error {
	var late []string
	err := c.db.View(ctx, func(r store.Reader) error {
		late = nil
		return r.Scan(tableLive, nil, nil, func(_, id []byte) error {
			if !c.sessions.alive(string(id)) {
				late = append(late, string(id))
			}
			return nil
		})
	})
	if err != nil || len(late) == 0 {
		return err
	}
	err = c.db.Update(ctx, func(w store.Writer) error {
		for _, id := range late {
			s, err := sessions.get(w, []byte(id))
			if err != nil {
				return err
			}
			// A lease that is dead stays dead, so this holds from the look above to the end of the transaction.
			if s.State != SessionOpen || c.sessions.alive(id) {
				continue
			}
			if err := c.endSession(w, &s, SessionExpired, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("expire sessions: %w", err)
	}
	for _, id := range late {
		c.sessions.drop(id)
		c.progress.drop(id)
		c.log.Info("session expired", "session", id)
	}
	return nil
}

// cleanSessions removes the pins of sessions that ended. Of those that made a restpoint it queues prove jobs for what the restpoint uses and nobody
// has proven, in the same transactions: each pin leads to one job or to none, whatever dies.
func (c *Catalog) cleanSessions(ctx context.Context) error {
	var dirty []string
	err := c.db.View(ctx, func(r store.Reader) error {
		dirty = nil
		return r.Scan(tableDirty, nil, nil, func(id, _ []byte) error {
			dirty = append(dirty, string(id))
			return nil
		})
	})
	if err != nil {
		return err
	}
	queued := false
	for _, id := range dirty {
		for more := true; more; {
			err := c.db.Update(ctx, func(w store.Writer) (err error) {
				var q bool
				more, q, err = c.cleanSome(w, id)
				queued = queued || q
				return err
			})
			if err != nil {
				return fmt.Errorf("clean up session %s: %w", id, err)
			}
		}
	}
	if queued {
		c.work.fire()
	}
	return nil
}

func (c *Catalog) cleanSome(w store.Writer, session string) (more, queued bool, err error) {
	s, err := sessions.get(w, []byte(session))
	if err != nil {
		return false, false, err
	}
	var pins [][]byte
	err = w.Scan(tablePins, under(session, nil), nil, func(k, _ []byte) error {
		pins = append(pins, append([]byte(nil), k...))
		if len(pins) == cleanBatch {
			return store.ErrStop
		}
		return nil
	})
	if err != nil {
		return false, false, err
	}
	var prove []wire.JobPack
	flush := func() error {
		if len(prove) == 0 {
			return nil
		}
		j := Job{Kind: wire.JobProve, Project: s.Project, Machine: s.Machine, Packs: prove, Trace: s.Restpoint}
		prove, queued = nil, true
		return c.queueJob(w, &j)
	}
	for _, k := range pins {
		if err := w.Delete(tablePins, k); err != nil {
			return false, false, err
		}
		if s.State != SessionDone {
			continue
		}
		p, err := getPack(w, binary.BigEndian.Uint64(k[len(k)-8:]))
		if errors.Is(err, store.ErrNotFound) {
			continue // offered, not used, and collected since the session ended
		}
		if err != nil {
			return false, false, err
		}
		if p.State != PackLive || !p.Proven.IsZero() || p.ProveJob {
			continue
		}
		p.ProveJob = true
		if err := putPack(w, p); err != nil {
			return false, false, err
		}
		if prove = append(prove, p.job()); len(prove) == proveBatch {
			if err := flush(); err != nil {
				return false, false, err
			}
		}
	}
	if err := flush(); err != nil {
		return false, false, err
	}
	if len(pins) == cleanBatch {
		return true, queued, nil
	}
	if err := w.Delete(tableDirty, []byte(session)); err != nil {
		return false, false, err
	}
	return false, queued, forgetSessions(w, s.Machine, keepSessions)
}

// forgetSessions deletes a machine's oldest sessions that are over and clean, all but the newest keep.
func forgetSessions(w store.Writer, machine string, keep int) error {
	var keys, ids [][]byte
	err := w.Scan(tableMachineSession, under(machine, nil), nil, func(k, id []byte) error {
		keys, ids = append(keys, append([]byte(nil), k...)), append(ids, append([]byte(nil), id...))
		return nil
	})
	if err != nil {
		return err
	}
	for i := range max(0, len(ids)-keep) {
		dirty, err := exists(w, tableDirty, ids[i])
		if err != nil {
			return err
		}
		s, err := sessions.get(w, ids[i])
		if err != nil {
			return err
		}
		if dirty || s.State == SessionOpen || s.State == SessionCommitting {
			continue
		}
		if err := errors.Join(w.Delete(tableMachineSession, keys[i]), sessions.delete(w, ids[i])); err != nil {
			return err
		}
	}
	return nil
}
