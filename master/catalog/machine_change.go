package catalog

import (
	"context"

	"github.com/openmigrate/openmigrate/master/store"
)

// UpdateMachine changes a machine; fn may run more than once. The agent gets a new assignment.
func (c *Catalog) UpdateMachine(ctx context.Context, id string, fn func(*Machine) error) (Machine, error) {
	err := c.changeMachine(ctx, id, func(_ store.Writer, m *Machine) error {
		m.AssignmentVersion++
		return fn(m)
	})
	if err != nil {
		return Machine{}, err
	}
	c.news.fire(id)
	return c.Machine(ctx, id)
}

// changeMachine reads, changes and writes a machine's row in one transaction. What its id, project and name are stays.
func (c *Catalog) changeMachine(ctx context.Context, id string, fn func(store.Writer, *Machine) error) error {
	return c.db.Update(ctx, func(w store.Writer) error {
		m, err := getMachine(w, id)
		if err != nil {
			return err
		}
		was := m
		if err := fn(w, &m); err != nil {
			return err
		}
		m.ID, m.Project, m.Name = was.ID, was.Project, was.Name
		return putMachine(w, &m)
	})
}

// SetPaused stops or resumes a machine's cycles.
func (c *Catalog) SetPaused(ctx context.Context, id string, paused bool) error {
	_, err := c.UpdateMachine(ctx, id, func(m *Machine) error {
		m.Paused = paused
		return nil
	})
	return err
}

// RequestSync asks a machine for a restpoint now, and returns the id of that wish: when Machine.Syncs holds it, it is fulfilled. A wish is
// fulfilled only by a session that was opened after it.
func (c *Catalog) RequestSync(ctx context.Context, id string) (string, error) {
	sync := newID()
	_, err := c.UpdateMachine(ctx, id, func(m *Machine) error {
		if m.Paused {
			return conflict("machine %s is paused", m.Name).WithNext("resume it first: openmigrate machines resume " + m.Name)
		}
		if m.Hold != nil {
			return m.admitsSession(sync)
		}
		m.Sync = sync
		return nil
	})
	return sync, err
}

// Revoke cuts a machine's agent off for ever. Its restpoints stay.
func (c *Catalog) Revoke(ctx context.Context, id string) error {
	_, err := c.UpdateMachine(ctx, id, func(m *Machine) error {
		m.Revoked = true
		return nil
	})
	return err
}

// Unfreeze lets an identity work again that was seen twice. The next Hello says which host it is.
func (c *Catalog) Unfreeze(ctx context.Context, id string) error {
	_, err := c.UpdateMachine(ctx, id, func(m *Machine) error {
		m.Frozen, m.Fingerprint = "", ""
		return nil
	})
	return err
}
