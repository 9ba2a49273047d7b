package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
)

// Removals are in two steps: the row is hidden in one transaction and noted in tableRemovals; the object in the bucket and
// then the row go when nobody holds the restpoint any more. A master that dies between is none the worse.
//
// Packs are not touched here: a collector finds that nothing refers to them.
const (
	tableRemovals = "removals" // restpoint → nothing
)

// RemoveRestpoint takes a restpoint off the list. A session that has it as its parent, and a job that reads it, keep its data until
// they end. One that is pinned, or that a launch keeps, stays: CodeConflict.
func (c *Catalog) RemoveRestpoint(ctx context.Context, ref string) error {
	err := c.db.Update(ctx, func(w store.Writer) error {
		p, err := findRestpoint(w, ref)
		if err != nil {
			return err
		}
		if p.Pinned {
			return conflict("restpoint %s is pinned", p.ID).WithNext("unpin it first: openmigrate restpoints unpin " + p.ID)
		}
		if err := free(w, &p); err != nil {
			return err
		}
		if err := hideRestpoint(w, &p); err != nil {
			return err
		}
		m, err := machines.get(w, []byte(p.Machine))
		if err != nil {
			return err
		}
		if m.LastRestpoint != p.ID {
			return nil
		}
		newest, err := newestRestpoint(w, m.ID)
		if err != nil {
			return err
		}
		m.newest(newest)
		return putMachine(w, &m)
	})
	if err != nil {
		return err
	}
	if err := c.finishRemovals(ctx); err != nil {
		c.log.Warn("removal will be tried again", "error", err)
	}
	return nil
}

func hideRestpoint(w store.Writer, p *Restpoint) error {
	p.State = RestpointRemoving
	if err := w.Delete(tableMachineRest, under(p.Machine, u64(p.Sequence))); err != nil {
		return err
	}
	if err := w.Put(tableRemovals, []byte(p.ID), nil); err != nil {
		return err
	}
	return restpoints.put(w, []byte(p.ID), *p)
}

// RemoveMachine cuts a machine's agent off and removes it with all its restpoints. Its name is free at once. A machine with a
// live session is CodeBusy, one with a pinned restpoint CodeConflict.
func (c *Catalog) RemoveMachine(ctx context.Context, ref string) error {
	var id string
	err := c.db.Update(ctx, func(w store.Writer) error {
		m, err := findMachine(w, ref)
		if err != nil {
			return err
		}
		id = m.ID
		live, err := liveSession(w, m.ID)
		if err != nil {
			return err
		}
		if live != nil {
			return busy("machine %s has a live session", m.Name).WithNext("stop its agent, or pause the machine and wait until the session ends")
		}
		var all []Restpoint
		err = w.Scan(tableMachineRest, under(m.ID, nil), nil, func(_, id []byte) error {
			p, err := restpoints.get(w, id)
			if err == nil && p.Pinned {
				return conflict("restpoint %s of machine %s is pinned", p.ID, m.Name).WithNext("unpin it first: openmigrate restpoints unpin " + p.ID)
			}
			all = append(all, p)
			return errors.Join(err, free(w, &p))
		})
		if err != nil {
			return err
		}
		for i := range all {
			if err := hideRestpoint(w, &all[i]); err != nil {
				return err
			}
		}
		if err := w.Delete(tableMachineNames, under(m.Project, []byte(m.Name))); err != nil {
			return err
		}
		m.Removing, m.Revoked = true, true
		m.Inventory, m.Events = nil, nil
		return putMachine(w, &m)
	})
	if err != nil {
		return err
	}
	c.news.fire(id)
	c.seen.drop(id)
	if err := c.finishRemovals(ctx); err != nil {
		c.log.Warn("removal will be tried again", "error", err)
	}
	return nil
}

// finishRemovals does the second step for all that nobody holds.
func (c *Catalog) finishRemovals(ctx context.Context) error {
	var todo []Restpoint
	err := c.db.View(ctx, func(r store.Reader) error {
		todo = nil
		var held map[string]bool
		return r.Scan(tableRemovals, nil, nil, func(id, _ []byte) (err error) {
			if held == nil {
				if held, err = heldRestpoints(r); err != nil {
					return err
				}
			}
			if held[string(id)] {
				return nil
			}
			p, err := restpoints.get(r, id)
			todo = append(todo, p)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("look for removals: %w", err)
	}
	var errs []error
	for i := range todo {
		errs = append(errs, c.finishRemoval(ctx, &todo[i]))
	}
	return errors.Join(append(errs, c.forgetMachines(ctx))...)
}

func (c *Catalog) finishRemoval(ctx context.Context, p *Restpoint) error {
	if err := c.bucket.Delete(ctx, format.RestpointName(p.Machine, p.ID)); err != nil {
		return fmt.Errorf("remove restpoint %s: %w", p.ID, err)
	}
	return c.db.Update(ctx, func(w store.Writer) error {
		return errors.Join(
			restpoints.delete(w, []byte(p.ID)),
			w.Delete(tableObjects, []byte(p.ID)),
			w.Delete(tableRemovals, []byte(p.ID)),
		)
	})
}

// heldRestpoints are those that a live session has as its parent or that a job reads.
func heldRestpoints(r store.Reader) (map[string]bool, error) {
	held := make(map[string]bool)
	err := r.Scan(tableLive, nil, nil, func(_, id []byte) error {
		s, err := sessions.get(r, id)
		held[s.Parent] = true
		return err
	})
	if err != nil {
		return nil, err
	}
	err = r.Scan(tableQueue, nil, nil, func(_, id []byte) error {
		j, err := jobs.get(r, id)
		held[j.Restpoint] = true
		return err
	})
	delete(held, "")
	return held, err
}

// forgetMachines deletes machines that are being removed and have no restpoint any more, with what is left of their sessions.
func (c *Catalog) forgetMachines(ctx context.Context) error {
	var gone []string
	err := c.db.View(ctx, func(r store.Reader) error {
		gone = nil
		waiting := make(map[string]bool)
		err := r.Scan(tableRemovals, nil, nil, func(id, _ []byte) error {
			p, err := restpoints.get(r, id)
			waiting[p.Machine] = true
			return err
		})
		if err != nil {
			return err
		}
		return access.scan(r, nil, nil, func(id []byte, a machineAccess) error {
			if a.Removing && !waiting[string(id)] {
				gone = append(gone, string(id))
			}
			return nil
		})
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	return c.db.Update(ctx, func(w store.Writer) error {
		for _, id := range gone {
			if err := forgetSessions(w, id, 0); err != nil {
				return err
			}
			left := false // sessions that are not cleaned up yet
			err := w.Scan(tableMachineSession, under(id, nil), nil, func(_, _ []byte) error {
				left = true
				return store.ErrStop
			})
			if err != nil {
				return err
			}
			if left {
				continue
			}
			if err := errors.Join(machines.delete(w, []byte(id)), access.delete(w, []byte(id))); err != nil {
				return err
			}
		}
		return nil
	})
}
