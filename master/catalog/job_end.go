package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// CompleteJob ends a job that was done. What a prove job opened is proven, but for what it reported as damaged; a verify job says how
// its restpoint is. It is idempotent.
func (c *Catalog) CompleteJob(ctx context.Context, holder, id string, result wire.JobResult) error {
	err := c.db.Update(ctx, func(w store.Writer) error {
		j, err := getJob(w, id)
		if err == nil && j.State == JobDone && j.Holder == holder {
			return nil
		}
		if err != nil {
			return err
		}
		if j, err = c.heldJob(w, holder, id); err != nil {
			return err
		}
		if result.Damaged > j.Damaged {
			return conflict("job %s found %d damages and reported %d", id, result.Damaged, j.Damaged).WithNext("report them first")
		}
		result.Message, result.Data = cut(result.Message), result.Data[:min(len(result.Data), wire.MaxDisks)]
		if err := takeReport(w, id, &result); err != nil {
			return err
		}
		switch j.Kind {
		case wire.JobProve:
			err = c.prove(w, &j)
		case wire.JobVerify:
			err = c.verified(w, &j, &result)
		}
		if err != nil {
			return err
		}
		return c.endJob(w, &j, JobDone, &result, nil)
	})
	if err == nil {
		c.progress.drop(id)
		c.ended.fire()
	}
	return err
}

// takeReport keeps a result's report in a row of its own. One that is too large is dropped: what the job did is done.
func takeReport(w store.Writer, id string, result *wire.JobResult) error {
	report := result.Report
	result.Report = nil
	switch {
	case len(report) == 0:
		return nil
	case len(report) > wire.MaxConvertReport:
		result.Message = cut(fmt.Sprintf("its report of %d bytes was dropped. %s", len(report), result.Message))
		return nil
	}
	return w.Put(tableReports, []byte(id), report)
}

// prove marks the packs of a job that are still live.
func (c *Catalog) prove(w store.Writer, j *Job) error {
	project, err := getProject(w, j.Project)
	if err != nil {
		return err
	}
	return j.eachPack(w, func(p *Pack) error {
		if p.State != PackLive {
			return nil
		}
		p.Proven, p.ProveJob = c.clock.Now(), false
		if err := putPack(w, p); err != nil {
			return err
		}
		any, err := anyLost(w, project.Number)
		if err != nil || !any {
			return err
		}
		ids, err := packContents(w, p.Seq)
		if err != nil {
			return err
		}
		return foundIn(w, project.Number, p, ids)
	})
}

func (j *Job) eachPack(w store.Writer, fn func(*Pack) error) error {
	for _, q := range j.Packs {
		id, err := format.ParsePackID(q.ID)
		if err != nil {
			return fmt.Errorf("job %s: %w", j.ID, err)
		}
		p, err := packByID(w, id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalog) verified(w store.Writer, j *Job, result *wire.JobResult) error {
	if j.Disk != nil && result.Damaged == 0 {
		return nil // a part of it says nothing of the rest
	}
	p, err := getRestpoint(w, j.Restpoint)
	if wire.HasCode(err, wire.CodeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p.checked(result.Damaged > 0, c.clock.Now())
	return restpoints.put(w, []byte(p.ID), p)
}

// FailJob gives a job back that could not be done. When the fault may pass it is queued again, up to MaxAttempts leases. It is idempotent.
func (c *Catalog) FailJob(ctx context.Context, holder, id string, f wire.Failure) error {
	requeued := false
	err := c.db.Update(ctx, func(w store.Writer) error {
		requeued = false
		j, err := getJob(w, id)
		if err == nil && j.Holder == holder && (j.State == JobFailed || j.State == JobCancelled) {
			return nil
		}
		if err != nil {
			return err
		}
		if j, err = c.heldJob(w, holder, id); err != nil {
			return err
		}
		f := wire.Failure{Code: cut(f.Code), Message: cut(f.Message)}
		requeued = mayPass(f.Code) && j.Kind != wire.JobExport && j.Attempts < c.opt.MaxAttempts
		return c.giveBack(w, &j, requeued, &f)
	})
	if err != nil {
		return err
	}
	c.progress.drop(id)
	if requeued {
		c.work.fire()
	}
	c.ended.fire()
	return nil
}

// mayPass reports whether a failure is one that another try may not have.
func mayPass(code string) bool {
	switch code {
	case wire.CodeStaging, wire.CodeUnavailable, wire.CodeInternal, wire.CodeFenced, "":
		return true
	}
	return false
}

// giveBack queues a job again or lets it fail.
func (c *Catalog) giveBack(w store.Writer, j *Job, again bool, f *wire.Failure) error {
	c.jobs.drop(j.lease())
	if again {
		j.State, j.Holder, j.Failure = JobQueued, "", f
		return putJob(w, j)
	}
	return c.endJob(w, j, JobFailed, nil, f)
}

// endJob moves a job to an end.
func (c *Catalog) endJob(w store.Writer, j *Job, state JobState, result *wire.JobResult, f *wire.Failure) error {
	if state != JobDone {
		// The next session that uses one of these packs has them proven in another job.
		err := j.eachPack(w, func(p *Pack) error {
			p.ProveJob = false
			return putPack(w, p)
		})
		if err != nil {
			return err
		}
	}
	c.jobs.drop(j.lease())
	j.State, j.Ended, j.Result, j.Failure, j.Packs, j.Convert = state, c.clock.Now(), result, f, nil, nil
	if p, ok := c.progress.get(j.ID); ok {
		j.Progress = &p
	}
	return putJob(w, j)
}

// CancelJob ends a job; its holder is told when it renews. It is idempotent.
func (c *Catalog) CancelJob(ctx context.Context, id string) error {
	err := c.db.Update(ctx, func(w store.Writer) error {
		j, err := getJob(w, id)
		if err != nil {
			return err
		}
		switch j.State {
		case JobCancelled:
			return nil
		case JobDone, JobFailed:
			return conflict("job %s is %s", id, j.State)
		}
		return c.endJob(w, &j, JobCancelled, nil, nil)
	})
	if err == nil {
		c.progress.drop(id)
		c.ended.fire()
	}
	return err
}
