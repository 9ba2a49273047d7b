package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// expireJobs takes jobs from holders that were not heard of, and forgets the oldest that are over.
func (c *Catalog) expireJobs(ctx context.Context) error {
	var late []string
	ended := 0
	err := c.db.View(ctx, func(r store.Reader) error {
		late, ended = nil, 0
		err := r.Scan(tableEnded, nil, nil, func(_, _ []byte) error {
			ended++
			return nil
		})
		if err != nil {
			return err
		}
		return r.Scan(tableQueue, nil, nil, func(_, id []byte) error {
			j, err := jobs.get(r, id)
			if err == nil && j.State == JobLeased && !c.jobs.alive(j.lease()) {
				late = append(late, j.ID)
			}
			return err
		})
	})
	if err != nil || len(late) == 0 && ended <= keepJobs {
		return err
	}
	err = c.db.Update(ctx, func(w store.Writer) error {
		for _, id := range late {
			j, err := getJob(w, id)
			if err != nil {
				return err
			}
			if j.State != JobLeased || c.jobs.alive(j.lease()) {
				continue
			}
			f := &wire.Failure{Code: wire.CodeFenced, Message: fmt.Sprintf("%.64q did not renew it in time, at attempt %d", j.Holder, j.Attempts)}
			if err := c.giveBack(w, &j, j.Kind != wire.JobExport && j.Attempts < c.opt.MaxAttempts, f); err != nil {
				return err
			}
		}
		return forgetJobs(w, keepJobs)
	})
	if err != nil {
		return fmt.Errorf("expire jobs: %w", err)
	}
	for _, id := range late {
		c.progress.drop(id) // what the last holder showed is gone with it
	}
	c.work.fire()
	c.ended.fire()
	return nil
}

// NodeStarted takes the jobs from a node whose process began anew: the one that had them is gone, or is refused from now on as an older one, and
// whoever waits for them need not wait until their leases run out. Call it before the new process may lease.
func (c *Catalog) NodeStarted(ctx context.Context, node string) error {
	var held []Job
	err := c.db.Update(ctx, func(w store.Writer) error {
		held = nil
		err := w.Scan(tableQueue, nil, nil, func(_, id []byte) error {
			j, err := jobs.get(w, id)
			if err == nil && j.State == JobLeased && j.Holder == node && j.Kind != wire.JobExport {
				held = append(held, j)
			}
			return err
		})
		if err != nil {
			return err
		}
		for i := range held {
			j := &held[i]
			f := &wire.Failure{Code: wire.CodeFenced, Message: fmt.Sprintf("node %.64q was started again, at attempt %d", node, j.Attempts)}
			if err := c.giveBack(w, j, j.Attempts < c.opt.MaxAttempts, f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take jobs from node %.64q: %w", node, err)
	}
	for i := range held {
		c.progress.drop(held[i].ID)
	}
	if len(held) > 0 {
		c.work.fire()
		c.ended.fire()
	}
	return nil
}

// forgetJobs deletes the oldest jobs that are over, all but the newest keep.
func forgetJobs(w store.Writer, keep int) error {
	var keys, ids [][]byte
	err := w.Scan(tableEnded, nil, nil, func(k, id []byte) error {
		keys, ids = append(keys, slices.Clone(k)), append(ids, slices.Clone(id))
		return nil
	})
	if err != nil {
		return err
	}
	for i := range max(0, len(ids)-keep) {
		if err := errors.Join(w.Delete(tableEnded, keys[i]), w.Delete(tableReports, ids[i]), jobs.delete(w, ids[i])); err != nil {
			return err
		}
	}
	return nil
}
