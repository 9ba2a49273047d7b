package catalog

import (
	"context"
	"encoding/json"
	"errors"
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
	var moved *Moved
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
		if c.progress.set(id, p) {
			moved = &Moved{Kind: "job", ID: id, Project: j.Project, Machine: j.Machine}
		}
		return nil
	})
	if err != nil {
		return wire.JobLease{}, err
	}
	if moved != nil {
		c.opt.Moved(*moved)
	}
	c.seen.set(holder, c.clock.Now())
	return lease, nil
}

// ReportJob keeps what a job has done that goes on, as CompleteJob does with a result's report; JobReport returns the last. CodeTooLarge for more than
// MaxConvertReport bytes.
func (c *Catalog) ReportJob(ctx context.Context, holder, id string, report json.RawMessage) error {
	if len(report) > wire.MaxConvertReport {
		return wire.NewProblem(413, wire.CodeTooLarge, "the report of job %.64q has %d bytes, and %d are taken", id, len(report), wire.MaxConvertReport)
	}
	return c.db.Update(ctx, func(w store.Writer) error {
		if _, err := c.heldJob(w, holder, id); err != nil {
			return err
		}
		return w.Put(tableReports, []byte(id), report)
	})
}

// JobURLs gives the holder of a job the right to read packs: those of a prove job, and those that readers of its machine's restpoints may be
// sent to, in which the bases of its patches are. For any other the URL is empty.
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
			if p.Project == j.Project && (j.reads(p) || p.readable(j.Machine)) {
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
	// A prove job knows its own packs, and asks for the bases of patches.
	return c.resolve(ctx, j.Project, func(p *Pack) bool { return j.reads(p) || p.readable(j.Machine) }, ids)
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
