package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

type JobRef struct {
	Job string `path:"job" maxLength:"256"`
}

type jobOut struct{ Body wire.JobInfo }

func (s *server) registerJobs(api huma.API) {
	add(s, api, op{id: "list-jobs", method: "GET", path: wire.PathJobs, tag: "jobs", summary: "List jobs, newest first", text: "All that are active, and the last that are over."}, s.listJobs)
	add(s, api, op{id: "create-job", method: "POST", path: wire.PathJobs, tag: "jobs", summary: "Have a node verify or rebuild a restpoint", status: http.StatusAccepted, creates: true}, s.createJob)
	add(s, api, op{id: "get-job", method: "GET", path: wire.PathJobInfo, tag: "jobs", summary: "Show a job"}, s.getJob)
	add(s, api, op{id: "cancel-job", method: "POST", path: wire.PathJobCancel, tag: "jobs", summary: "Cancel a job"}, s.cancelJob)
	add(s, api, op{id: "hold-job", method: "POST", path: wire.PathJobHold, tag: "jobs", summary: "Do an export oneself",
		text: "The answer has the project's keys in it; what follows is the protocol of nodes."}, s.holdJob)
	add(s, api, op{id: "list-sessions", method: "GET", path: wire.PathMachineSessions, tag: "sessions", summary: "List a machine's replication sessions, newest first",
		text: "The one that is open, and the last that ended."}, s.listSessions)
	add(s, api, op{id: "get-session", method: "GET", path: wire.PathSession, tag: "sessions", summary: "Show a replication session"}, s.getSession)
}

type listJobsIn struct {
	PageParams
	Kind      []string `query:"kind" maxItems:"16" doc:"Any of these kinds."`
	State     []string `query:"state" maxItems:"8" doc:"Any of these: queued, leased, done, failed, cancelled."`
	Restpoint string   `query:"restpoint" maxLength:"256" doc:"Of this restpoint's id."`
}

func (s *server) listJobs(ctx context.Context, in *listJobsIn) (*pageOut[wire.JobInfo], error) {
	list, err := s.Catalog.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	type numbered struct {
		number uint64
		info   wire.JobInfo
	}
	var out []numbered
	for i := range list {
		j := &list[i]
		if j.Project == person(ctx).Project && oneOf(in.Kind, j.Kind) && oneOf(in.State, string(j.State)) && (in.Restpoint == "" || in.Restpoint == j.Restpoint) {
			out = append(out, numbered{j.Number, jobInfo(j)})
		}
	}
	p, err := page(out, &in.PageParams, "-number", func(n *numbered) sortKey { return sortKey{Number: int64(n.number)} })
	if err != nil {
		return nil, err
	}
	jobs := wire.Page[wire.JobInfo]{Items: make([]wire.JobInfo, 0, len(p.Items)), NextCursor: p.NextCursor, Total: p.Total}
	for _, n := range p.Items {
		jobs.Items = append(jobs.Items, n.info)
	}
	return &pageOut[wire.JobInfo]{jobs}, nil
}

func jobInfo(j *catalog.Job) wire.JobInfo {
	return wire.JobInfo{ID: j.ID, Kind: j.Kind, State: string(j.State), Restpoint: j.Restpoint, Holder: j.Holder, Attempts: j.Attempts,
		Created: j.Created, Started: j.Started, Ended: j.Ended, Progress: j.Progress, Result: j.Result, Failure: j.Failure}
}

type createJobIn struct {
	Idempotent
	Body wire.JobRequest
}

func (s *server) createJob(ctx context.Context, in *createJobIn) (*jobOut, error) {
	q := &in.Body
	switch q.Kind {
	case wire.JobVerify, wire.JobExport, wire.JobHydrate:
	default:
		return nil, badField("kind", "job kind %.40q: want verify, export or hydrate", q.Kind)
	}
	if !words(q.Target, 0, maxURLPath) {
		return nil, badField("target", "target: want up to %d bytes of printable text", maxURLPath)
	}
	r, err := s.restpoint(ctx, q.Restpoint)
	if err != nil {
		return nil, err
	}
	if q.Disk != nil && (*q.Disk < 0 || *q.Disk >= len(r.Disks)) {
		return nil, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "restpoint %s has no disk %d, it has %d, from 0", r.ID, *q.Disk, len(r.Disks))
	}
	j, err := s.Catalog.CreateJob(ctx, catalog.JobSpec{Kind: q.Kind, Restpoint: r.ID, Disk: q.Disk, Target: q.Target, Overwrite: q.Overwrite})
	if err != nil {
		return nil, err
	}
	info := jobInfo(&j)
	s.changed(ctx, "job", j.ID, j.Kind, nil, info)
	return &jobOut{info}, nil
}

// job reads a job of the caller's project.
func (s *server) job(ctx context.Context, id string) (catalog.Job, error) {
	j, err := s.Catalog.Job(ctx, id)
	if err == nil && j.Project != person(ctx).Project {
		return catalog.Job{}, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no job %.64q", id)
	}
	return j, err
}

func (s *server) getJob(ctx context.Context, in *JobRef) (*jobOut, error) {
	j, err := s.job(ctx, in.Job)
	if err != nil {
		return nil, err
	}
	return &jobOut{jobInfo(&j)}, nil
}

func (s *server) cancelJob(ctx context.Context, in *JobRef) (*struct{}, error) {
	j, err := s.job(ctx, in.Job)
	if err != nil {
		return nil, err
	}
	if err := s.Catalog.CancelJob(ctx, j.ID); err != nil {
		return nil, err
	}
	s.changed(ctx, "job", j.ID, j.Kind, map[string]any{"state": j.State}, map[string]any{"state": catalog.JobCancelled})
	return nil, nil
}

type holdJobOut struct{ Body *wire.Job }

func (s *server) holdJob(ctx context.Context, in *JobRef) (*holdJobOut, error) {
	j, err := s.job(ctx, in.Job)
	if err != nil {
		return nil, err
	}
	out, err := s.Catalog.HoldJob(ctx, person(ctx).Holder(), j.ID)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "job", j.ID, j.Kind, nil, map[string]any{"held": true, "restpoint": j.Restpoint})
	return &holdJobOut{out}, nil
}

type listSessionsIn struct {
	MachineRef
	PageParams
}

func (s *server) listSessions(ctx context.Context, in *listSessionsIn) (*pageOut[wire.SessionInfo], error) {
	m, err := s.machine(ctx, in.Machine)
	if err != nil {
		return nil, err
	}
	list, err := s.Catalog.Sessions(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	out := make([]wire.SessionInfo, 0, len(list))
	for i := range list {
		out = append(out, sessionInfo(&list[i]))
	}
	return listed(out, &in.PageParams, "-opened", func(x *wire.SessionInfo) sortKey { return sortKey{Number: x.Opened.UnixNano(), ID: x.ID} })
}

func sessionInfo(x *catalog.Session) wire.SessionInfo {
	return wire.SessionInfo{ID: x.ID, Machine: x.Machine, State: string(x.State), Restpoint: x.Restpoint, Parent: x.Parent, Opened: x.Opened, Ended: x.Ended,
		Progress: x.Progress, Failure: x.Failure}
}

type getSessionIn struct {
	Session string `path:"session" maxLength:"256"`
}

type sessionOut struct{ Body wire.SessionInfo }

func (s *server) getSession(ctx context.Context, in *getSessionIn) (*sessionOut, error) {
	x, err := s.Catalog.Session(ctx, in.Session)
	if err == nil && x.Project != person(ctx).Project {
		err = wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no session %.64q", in.Session)
	}
	if err != nil {
		return nil, err
	}
	return &sessionOut{sessionInfo(&x)}, nil
}
