package gc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// Options change a collection. A nil *Options is ready for use.
type Options struct {
	Progress Progress
	// KeepUnfinished leaves packs alone that a machine committed since its newest restpoint was listed, though nothing refers to them: a
	// replication that was interrupted finds them again and need not send them twice. Once the machine has made a restpoint, what
	// that did not use goes. It is for collections that nobody asked for.
	KeepUnfinished bool
}

// Report says what a collection found and did. Bytes are those of objects, or of entries as stored.
type Report struct {
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	// Aborted: it could not be told for certain what is needed, so nothing was deleted. Problems says why.
	Aborted bool `json:"aborted"`
	Problems

	Restpoints int   `json:"restpoints"` // walked
	Nodes      int64 `json:"nodes"`      // different tree nodes that they have

	PacksKept        int64 `json:"packs_kept"`        // all that are still there and bear no tombstone
	PacksPinned      int64 `json:"packs_pinned"`      // of these: only live sessions need them, or they are new
	PacksUnfinished  int64 `json:"packs_unfinished"`  // of these: kept for a replication that was interrupted
	PacksQuarantined int64 `json:"packs_quarantined"` // of these: damaged, and something still refers to them
	PacksDeleted     int64 `json:"packs_deleted"`     // object and rows are gone
	PacksWaiting     int64 `json:"packs_waiting"`     // object is gone, row stays until no signed URL for it is good any more

	BytesLive  int64 `json:"bytes_live"`  // entries that restpoints need
	BytesDead  int64 `json:"bytes_dead"`  // the rest of the packs that are kept
	BytesFreed int64 `json:"bytes_freed"` // objects deleted

	LostForgotten int64 `json:"lost_forgotten"` // lost ids that no restpoint needs any more
}

// Collect deletes what nothing needs. It returns ErrBusy while another collection or a rebuild runs; other errors leave things so that the next collection goes
// on where this one ended. It does not fail when it finds damage: Report.Aborted is set.
func (g *Collector) Collect(ctx context.Context, opt *Options) (Report, error) {
	if opt == nil {
		opt = &Options{}
	}
	r := Report{Started: g.clock.Now(), Problems: noProblems()}
	if !g.running.TryLock() {
		return r, ErrBusy
	}
	defer g.running.Unlock()
	c := collection{g: g, opt: opt, report: &r, packs: make(map[uint64]*packMark), machines: make(map[string]*catalog.Machine)}
	err := c.run(ctx)
	var d *damage
	if errors.As(err, &d) {
		r.Aborted, err = true, nil
		id := d.restpoint.ID
		r.add("restpoints/"+d.restpoint.Machine+"/"+id, "openmigrate restpoints verify "+id+"; if it can not be mended: openmigrate restpoints rm "+id, "%v", d)
	}
	r.Ended = g.clock.Now()
	if err != nil {
		err = fmt.Errorf("collect garbage: %w", err)
	}
	return r, err
}

// collection is one run: take stock, mark, put tombstones, sweep.
type collection struct {
	g        *Collector
	opt      *Options
	report   *Report
	stock    *catalog.Collection
	packs    map[uint64]*packMark
	machines map[string]*catalog.Machine // nil: there is none
}

func (c *collection) run(ctx context.Context) error {
	var err error
	if c.stock, err = c.g.cat.BeginCollection(ctx); err != nil {
		return err
	}
	if err := c.strangers(ctx); err != nil || c.report.Aborted {
		return err
	}
	lost, err := c.mark(ctx)
	if err != nil {
		return err
	}
	for project, ids := range lost {
		if err := c.g.cat.ForgetLost(ctx, project, ids); err != nil {
			return err
		}
		c.report.LostForgotten += int64(len(ids))
	}
	if err := c.entomb(ctx); err != nil {
		return err
	}
	return c.sweep(ctx)
}

// mark marks from all roots, project by project, and returns the lost ids that nothing needs.
func (c *collection) mark(ctx context.Context) (lost map[string][]chunker.ID, err error) {
	projects, err := c.g.cat.Projects(ctx)
	if err != nil {
		return nil, err
	}
	byProject := make(map[string][]catalog.Restpoint)
	for _, p := range c.stock.Roots {
		byProject[p.Project] = append(byProject[p.Project], p)
	}
	lost = make(map[string][]chunker.ID)
	total := int64(len(c.stock.Roots))
	for i := range projects {
		project := projects[i].ID
		m, err := newMarker(ctx, c.g, project, c.packs)
		if err != nil {
			return nil, err
		}
		err = m.mark(ctx, byProject[project], func() {
			c.report.Restpoints++
			c.opt.Progress.tell("mark", int64(c.report.Restpoints), total)
		})
		if err != nil {
			return nil, err
		}
		c.report.Nodes += int64(len(m.nodes))
		for id := range m.lost {
			lost[project] = append(lost[project], id)
		}
		delete(byProject, project)
	}
	for project := range byProject {
		return nil, fmt.Errorf("there are restpoints of project %.64q, which does not exist", project)
	}
	return lost, nil
}

// unfinished reports whether a pack may be of use to the next session of its machine.
func (c *collection) unfinished(ctx context.Context, p *catalog.Pack) (bool, error) {
	if !c.opt.KeepUnfinished || p.State != catalog.PackLive || p.Machine == "" {
		return false, nil
	}
	m, known := c.machines[p.Machine]
	if !known {
		found, err := c.g.cat.Machine(ctx, p.Machine)
		switch {
		case err == nil:
			m = &found
		case !wire.HasCode(err, wire.CodeNotFound):
			return false, err
		}
		c.machines[p.Machine] = m
	}
	return m != nil && !m.Revoked && p.Committed.After(m.LastTime), nil
}

func isNoCopy(err error) bool {
	var e *noCopyError
	return errors.As(err, &e)
}
