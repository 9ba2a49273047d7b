package api

import (
	"errors"
	"net/http"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

func asProblem(err error, p **wire.Problem) bool { return errors.As(err, p) }

// restpoint reads a restpoint, if it is of the caller's project.
func (s *server) restpoint(c *call, ref string) (catalog.Restpoint, error) {
	r, err := s.Catalog.Restpoint(c.ctx, ref)
	if err == nil && r.Project != c.tok.Project {
		return r, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no restpoint %.100q", ref)
	}
	return r, err
}

func (s *server) listRestpoints(c *call) error {
	m, err := s.machine(c)
	if err != nil {
		return err
	}
	list, err := s.Catalog.Restpoints(c.ctx, m.ID)
	if err != nil {
		return err
	}
	out := make([]wire.RestpointInfo, 0, len(list))
	for i := range list {
		out = append(out, restpointInfo(&list[i]))
	}
	return c.answer(http.StatusOK, out)
}

func restpointInfo(r *catalog.Restpoint) wire.RestpointInfo {
	info := wire.RestpointInfo{
		ID: r.ID, Machine: r.Machine, Sequence: r.Sequence, Created: r.Created, Instant: r.Instant, Listed: r.Listed, Parent: r.Parent,
		Consistency: r.Consistency, State: string(r.State), Pinned: r.Pinned, Verified: r.Verified, Disks: r.Disks, Stats: r.Stats,
	}
	for _, d := range r.Disks {
		info.Size += d.Size
	}
	return info
}

func (s *server) showRestpoint(c *call) error {
	r, err := s.restpoint(c, c.r.PathValue("restpoint"))
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, restpointInfo(&r))
}

func (s *server) diff(c *call) error {
	from, err := s.restpoint(c, c.r.URL.Query().Get("from"))
	if err != nil {
		return err
	}
	to, err := s.restpoint(c, c.r.URL.Query().Get("to"))
	if err != nil {
		return err
	}
	disks, err := s.Catalog.DiffRestpoints(c.ctx, from.ID, to.ID)
	if err != nil {
		return err
	}
	out := make([]wire.DiskDiff, 0, len(disks))
	for _, d := range disks {
		out = append(out, wire.DiskDiff(d))
	}
	return c.answer(http.StatusOK, out)
}

// changeRestpoint runs fn on the restpoint of the path and answers with nothing.
func (s *server) changeRestpoint(c *call, what string, fn func(id string) error) error {
	r, err := s.restpoint(c, c.r.PathValue("restpoint"))
	if err != nil {
		return err
	}
	if err := fn(r.ID); err != nil {
		return err
	}
	s.audit(c, what, r.ID)
	return c.done()
}

func (s *server) pin(c *call) error {
	return s.changeRestpoint(c, "pinned", func(id string) error { return s.Catalog.PinRestpoint(c.ctx, id, true) })
}

func (s *server) unpin(c *call) error {
	return s.changeRestpoint(c, "unpinned", func(id string) error { return s.Catalog.PinRestpoint(c.ctx, id, false) })
}

func (s *server) removeRestpoint(c *call) error {
	return s.changeRestpoint(c, "removed restpoint", func(id string) error { return s.Catalog.RemoveRestpoint(c.ctx, id) })
}

func (s *server) listJobs(c *call) error {
	list, err := s.Catalog.Jobs(c.ctx)
	if err != nil {
		return err
	}
	out := make([]wire.JobInfo, 0, len(list))
	for i := range list {
		if list[i].Project == c.tok.Project {
			out = append(out, jobInfo(&list[i]))
		}
	}
	return c.answer(http.StatusOK, out)
}

func jobInfo(j *catalog.Job) wire.JobInfo {
	return wire.JobInfo{ID: j.ID, Kind: j.Kind, State: string(j.State), Restpoint: j.Restpoint, Holder: j.Holder, Attempts: j.Attempts,
		Created: j.Created, Started: j.Started, Ended: j.Ended, Progress: j.Progress, Result: j.Result, Failure: j.Failure}
}

func (s *server) createJob(c *call) error {
	var q wire.JobRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	switch q.Kind {
	case wire.JobVerify, wire.JobExport, wire.JobHydrate:
	default:
		return wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, "job kind %.40q: want verify, export or hydrate", q.Kind)
	}
	r, err := s.restpoint(c, q.Restpoint)
	if err != nil {
		return err
	}
	if q.Disk != nil && (*q.Disk < 0 || *q.Disk >= len(r.Disks)) {
		return wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "restpoint %s has no disk %d, it has %d, from 0", r.ID, *q.Disk, len(r.Disks))
	}
	j, err := s.Catalog.CreateJob(c.ctx, catalog.JobSpec{Kind: q.Kind, Restpoint: r.ID, Disk: q.Disk, Target: q.Target, Overwrite: q.Overwrite})
	if err != nil {
		return err
	}
	s.audit(c, "made job", j.Kind+" "+j.ID)
	return c.answer(http.StatusCreated, jobInfo(&j))
}

// job reads the job of the path, if it is of the caller's project.
func (s *server) job(c *call) (catalog.Job, error) {
	j, err := s.Catalog.Job(c.ctx, c.r.PathValue("job"))
	if err == nil && j.Project != c.tok.Project {
		return j, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no job %.100q", c.r.PathValue("job"))
	}
	return j, err
}

func (s *server) showJob(c *call) error {
	j, err := s.job(c)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, jobInfo(&j))
}

func (s *server) cancelJob(c *call) error {
	j, err := s.job(c)
	if err != nil {
		return err
	}
	if err := s.Catalog.CancelJob(c.ctx, j.ID); err != nil {
		return err
	}
	s.audit(c, "cancelled job", j.ID)
	return c.done()
}

func (s *server) holdJob(c *call) error {
	j, err := s.job(c)
	if err != nil {
		return err
	}
	out, err := s.Catalog.HoldJob(c.ctx, c.holder(), j.ID)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, out)
}
