package catalog

import (
	"context"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Assignment returns what a machine's agent shall do. When it is still the version that the agent has, Assignment waits
// for a change, at most so long, and reports whether there was one; without one a is nil.
func (c *Catalog) Assignment(ctx context.Context, id string, version uint64, wait time.Duration) (a *wire.Assignment, changed bool, err error) {
	var m Machine
	changed, err = c.news.poll(ctx, id, wait, func() (bool, error) {
		err := c.db.View(ctx, func(r store.Reader) (err error) {
			m, err = getMachine(r, id)
			return err
		})
		return m.AssignmentVersion != version, err
	})
	c.seen.set(id, c.clock.Now())
	if err != nil || !changed {
		return nil, false, err
	}
	keys, err := c.keys.Keys(ctx, m.Project)
	if err != nil {
		return nil, false, err
	}
	return &wire.Assignment{
		Version:      m.AssignmentVersion,
		Project:      m.Project,
		Keys:         keys.MarshalBinary(),
		Paused:       m.Paused,
		Interval:     wire.Duration(c.interval(&m)),
		Sync:         m.Sync,
		Disks:        m.Policy.Disks,
		ChunkSize:    m.Policy.ChunkSize,
		Bandwidth:    m.Policy.Bandwidth,
		Window:       m.Policy.Window,
		Consistency:  m.Policy.Consistency,
		StagingHosts: c.opt.StagingHosts,
		StagingCA:    c.opt.StagingCA,
		Hold:         m.Hold,
	}, true, nil
}
