package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// heldJob returns a job that holder has leased; CodeFenced when it does not hold it any more.
func (c *Catalog) heldJob(r store.Reader, holder, id string) (Job, error) {
	j, err := getJob(r, id)
	if err != nil {
		return j, err
	}
	if j.Holder != holder {
		return j, fenced("job %s is not held by %.64q", id, holder)
	}
	if j.State != JobLeased {
		return j, fenced("job %s is %s", id, j.State)
	}
	if !c.jobs.alive(j.lease()) {
		return j, fenced("job %s was not renewed in time", id)
	}
	return j, nil
}

// RenewJob keeps a job and notes its progress. A job that was cancelled says so.
func (c *Catalog) RenewJob(ctx context.Context, holder, id string, p wire.Progress) (wire.JobLease, error) {
	lease := c.jobLease()
	err := c.db.View(ctx, func(r store.Reader) error {
		j, err := getJob(r, id)
		if err == nil && j.Holder == holder && j.State == JobCancelled {
			lease.Cancelled = true
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := c.heldJob(r, holder, id); err != nil {
			return err
		}
		if !c.jobs.renew(j.lease()) {
			return fenced("job %s was not renewed in time", id)
		}
		p.Phase, p.Message = cut(p.Phase), cut(p.Message)
		c.progress.set(id, p)
		return nil
	})
	if err != nil {
		return wire.JobLease{}, err
	}
	c.seen.set(holder, c.clock.Now())
	return lease, nil
}

// JobURLs gives the holder of a job the right to read packs: those of a prove job, or those that readers of its machine's restpoints may be
// sent to. For any other the URL is empty.
func (c *Catalog) JobURLs(ctx context.Context, holder, id string, req wire.URLRequest) (wire.URLResponse, error) {
	if len(req.Packs) > wire.MaxURLs {
		return wire.URLResponse{}, badRequest("%d packs in one request, at most %d", len(req.Packs), wire.MaxURLs)
	}
	answer := wire.URLResponse{URLs: make([]string, len(req.Packs)), Valid: wire.Duration(c.opt.URLValid)}
	names := make([]string, len(req.Packs))
	err := c.db.View(ctx, func(r store.Reader) error {
		j, err := c.heldJob(r, holder, id)
		if err != nil {
			return err
		}
		for i, s := range req.Packs {
			pack, err := format.ParsePackID(s)
			if err != nil {
				return badRequest("packs: %v", err)
			}
			p, err := packByID(r, pack)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if p.Project == j.Project && j.reads(p) {
				names[i] = pack.Name()
			}
		}
		return nil
	})
	if err != nil {
		return wire.URLResponse{}, err
	}
	for i, name := range names {
		if name == "" {
			continue
		}
		signed, err := c.bucket.SignGet(ctx, name, c.opt.URLValid)
		if err != nil {
			return wire.URLResponse{}, stagingProblem("sign download", err)
		}
		answer.URLs[i] = signed.URL
	}
	return answer, nil
}

func (j *Job) reads(p *Pack) bool {
	if j.Kind != wire.JobProve {
		return p.readable(j.Machine)
	}
	name := p.ID.String()
	return p.State == PackLive && slices.ContainsFunc(j.Packs, func(q wire.JobPack) bool { return q.ID == name })
}

// JobResolve says where ids are for the reader that holds the job.
func (c *Catalog) JobResolve(ctx context.Context, holder, id string, ids []chunker.ID) ([]wire.Location, error) {
	var j Job
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		j, err = c.heldJob(r, holder, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if j.Kind != wire.JobProve {
		return c.ResolveFor(ctx, j.Project, j.Machine, ids)
	}
	// A prove job is after the copy in its own packs, whatever others there are.
	return c.resolve(ctx, j.Project, j.reads, ids)
}

// JobQuarantine takes what the holder of a job found damaged.
func (c *Catalog) JobQuarantine(ctx context.Context, holder, id string, damage []wire.Damage) error {
	var project string
	err := c.db.Update(ctx, func(w store.Writer) error {
		j, err := c.heldJob(w, holder, id)
		if err != nil {
			return err
		}
		project = j.Project
		j.Damaged += int64(len(damage))
		return putJob(w, &j)
	})
	if err != nil {
		return err
	}
	return c.Quarantine(ctx, project, damage)
}

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
		result.Message = cut(result.Message)
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
	}
	return err
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
	j.State, j.Ended, j.Result, j.Failure, j.Packs = state, c.clock.Now(), result, f, nil
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
	}
	return err
}

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
	c.work.fire()
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
		if err := errors.Join(w.Delete(tableEnded, keys[i]), jobs.delete(w, ids[i])); err != nil {
			return err
		}
	}
	return nil
}
