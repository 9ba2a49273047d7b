package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// JobState is where a job stands:
//
//	        lease                  complete
//	queued ──────► leased ───────────────────► done
//	  ▲  │           │ │ └─ fail, for good, or leased too often ─► failed
//	  │  │           │ └─ cancel ─► cancelled
//	  │  └─ cancel ──┼────────────► cancelled
//	  └── lease ran out, or failed and may be tried again
type JobState string

// States of jobs.
const (
	JobQueued    JobState = "queued"
	JobLeased    JobState = "leased"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

const (
	maxActiveJobs = 100_000
	keepJobs      = 1000 // jobs that are over and still shown
)

// JobSpec is what a job shall do.
type JobSpec struct {
	// ID is of the caller's choice, so that asking again after a crash makes no second job: up to 64 letters, digits and dashes. Empty: one is made.
	ID         string
	Kind       string           // wire.JobVerify, JobHydrate, JobExport, JobInspect, JobMeasure, JobConvert or JobServe; prove jobs are made by the catalog itself
	Restpoint  string           // id or M/latest; not of a convert job, which reads none
	Machine    string           // convert: the id of the machine whose system it is
	Disk       *int             // number; nil: all
	Target     string           // hydrate: a volume of the node
	Volumes    []wire.Volume    // hydrate: one, in place of Target; convert: all of the machine
	Convert    *wire.Conversion // inspect, convert, serve
	Provider   string           // only nodes that can write this provider's volumes may lease it; empty: any
	Overwrite  bool
	Background bool   // nobody waits for it: everything else but proofs is leased first
	Node       string // the only one that may lease it; empty: any
	Trace      string // of a launch: its id; empty: the work belongs to the restpoint's
}

// Job is work for a node, or for a person's tool.
type Job struct {
	ID         string           `json:"id"`
	Number     uint64           `json:"number"` // order of creation
	Kind       string           `json:"kind"`
	Project    string           `json:"project"`
	State      JobState         `json:"state"`
	Restpoint  string           `json:"restpoint,omitempty"`
	Machine    string           `json:"machine,omitempty"` // whose packs it may read unproven
	Disk       *int             `json:"disk,omitempty"`
	Packs      []wire.JobPack   `json:"packs,omitempty"` // prove; dropped when the job is over
	Target     string           `json:"target,omitempty"`
	Volumes    []wire.Volume    `json:"volumes,omitempty"`
	Convert    *wire.Conversion `json:"convert,omitempty"` // dropped when the job is over: it holds a secret
	Provider   string           `json:"provider,omitempty"`
	Background bool             `json:"background,omitempty"`
	Overwrite  bool             `json:"overwrite,omitempty"`
	Node       string           `json:"node,omitempty"`
	Holder     string           `json:"holder,omitempty"`
	Lane       string           `json:"lane,omitempty"` // of the holder
	Attempts   int              `json:"attempts"`
	Damaged    int64            `json:"damaged"` // damages reported through it
	Created    time.Time        `json:"created"`
	Started    time.Time        `json:"started"`
	Ended      time.Time        `json:"ended"`
	Progress   *wire.Progress   `json:"progress,omitempty"`
	Result     *wire.JobResult  `json:"result,omitempty"`
	Failure    *wire.Failure    `json:"failure,omitempty"`
	Trace      string           `json:"trace,omitempty"` // id of the launch, or of the restpoint whose packs it proves first; "": the restpoint that it is about
}

var jobs = table[Job]{"jobs"}

const (
	tableEnded   = "ended_jobs"  // jobs that are over: number → job
	tableReports = "job_reports" // job → its report, which is too large for a list
)

// CreateJob queues a job. One whose id is taken is returned as it is.
func (c *Catalog) CreateJob(ctx context.Context, spec JobSpec) (Job, error) {
	if err := spec.check(); err != nil {
		return Job{}, err
	}
	var j Job
	made := false
	err := c.db.Update(ctx, func(w store.Writer) (err error) {
		made = false
		if spec.ID != "" {
			if j, err = getJob(w, spec.ID); !wire.HasCode(err, wire.CodeNotFound) {
				return err
			}
		}
		made = true
		j = Job{
			ID: spec.ID, Kind: spec.Kind, Disk: spec.Disk, Target: spec.Target, Volumes: spec.Volumes, Convert: spec.Convert,
			Provider: spec.Provider, Background: spec.Background, Overwrite: spec.Overwrite, Node: spec.Node, Trace: spec.Trace,
		}
		if spec.Kind == wire.JobConvert {
			m, err := getMachine(w, spec.Machine)
			if err != nil {
				return err
			}
			j.Project, j.Machine = m.Project, m.ID
			return c.queueJob(w, &j)
		}
		p, err := findRestpoint(w, spec.Restpoint)
		if err != nil {
			return err
		}
		if spec.Disk != nil && (*spec.Disk < 0 || *spec.Disk >= len(p.Disks)) {
			return notFound("restpoint %s has no disk %d", p.ID, *spec.Disk).WithNext(fmt.Sprintf("its disks are 0 to %d", len(p.Disks)-1))
		}
		j.Project, j.Machine, j.Restpoint = p.Project, p.Machine, p.ID
		return c.queueJob(w, &j)
	})
	if err != nil {
		return Job{}, err
	}
	if made {
		c.work.fire()
	}
	return j, nil
}

// queueJob fills in a new job's id and stores it. Packs to prove join a job of the same machine that nobody has begun, so that a machine
// with a restpoint every second does not fill the queue while no node runs.
func (c *Catalog) queueJob(w store.Writer, j *Job) error {
	if j.Kind == wire.JobProve {
		if joined, err := joinProof(w, j); joined || err != nil {
			return err
		}
	} else {
		active := 0
		if err := w.Scan(tableQueue, nil, nil, func(_, _ []byte) error { active++; return nil }); err != nil {
			return err
		}
		if active >= maxActiveJobs {
			return wire.NewProblem(429, wire.CodeFull, "%d jobs are queued", active).WithNext("wait, or cancel some")
		}
	}
	var err error
	if j.Number, err = nextUint(w, metaJobSeq); err != nil {
		return err
	}
	if j.ID == "" {
		j.ID = newID()
	}
	j.State, j.Created = JobQueued, c.clock.Now()
	return putJob(w, j)
}

// proofKey is under which prove jobs of a machine are found; those of a rebuilt index are of no machine.
func proofKey(j *Job) []byte { return []byte(j.Project + "/" + j.Machine) }

// joinProof adds the packs of j to the newest prove job of its machine, if nobody has begun that and there is room, and makes j that job.
func joinProof(w store.Writer, j *Job) (joined bool, err error) {
	id, err := w.Get(tableProofs, proofKey(j))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	q, err := jobs.get(w, id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil || !q.untouched() || q.Project != j.Project || len(q.Packs)+len(j.Packs) > proveBatch {
		return false, err
	}
	q.Packs = append(q.Packs, j.Packs...)
	*j = q
	return true, putJob(w, j)
}

// untouched reports whether a job is a proof that nobody has begun.
func (j *Job) untouched() bool {
	return j.Kind == wire.JobProve && j.State == JobQueued && j.Attempts == 0
}

// putJob is the only writer of a job's rows.
func putJob(w store.Writer, j *Job) error {
	if j.untouched() {
		if err := w.Put(tableProofs, proofKey(j), []byte(j.ID)); err != nil {
			return err
		}
	} else if j.Kind == wire.JobProve {
		if id, err := w.Get(tableProofs, proofKey(j)); err == nil && string(id) == j.ID {
			if err := w.Delete(tableProofs, proofKey(j)); err != nil {
				return err
			}
		} else if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	in, out := tableQueue, tableEnded
	if j.State != JobQueued && j.State != JobLeased {
		in, out = out, in
	}
	return errors.Join(w.Put(in, u64(j.Number), []byte(j.ID)), w.Delete(out, u64(j.Number)), jobs.put(w, []byte(j.ID), *j))
}

// Job returns a job; CodeNotFound.
func (c *Catalog) Job(ctx context.Context, id string) (Job, error) {
	var j Job
	err := c.db.View(ctx, func(r store.Reader) (err error) {
		j, err = getJob(r, id)
		return err
	})
	if p, ok := c.progress.get(id); ok && err == nil {
		j.Progress = &p
	}
	return j, err
}

// JobReport returns what a job that is done left as its Result.Report, or what one that goes on said by ReportJob; nil when there is none.
func (c *Catalog) JobReport(ctx context.Context, id string) (json.RawMessage, error) {
	var report json.RawMessage
	err := c.db.View(ctx, func(r store.Reader) error {
		b, err := r.Get(tableReports, []byte(id))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		report = slices.Clone(b)
		return err
	})
	return report, err
}

// JobsEnded returns a channel that is closed when the next job ends. Take it before looking at a job.
func (c *Catalog) JobsEnded() <-chan struct{} { return c.ended.next() }

func getJob(r store.Reader, id string) (Job, error) {
	j, err := jobs.get(r, []byte(id))
	if errors.Is(err, store.ErrNotFound) {
		return j, notFound("there is no job %.64q", id)
	}
	return j, err
}

// Jobs returns all jobs that are active and the last that are over, newest first.
func (c *Catalog) Jobs(ctx context.Context) ([]Job, error) {
	var all []Job
	err := c.db.View(ctx, func(r store.Reader) error {
		return jobs.scan(r, nil, nil, func(_ []byte, j Job) error {
			if p, ok := c.progress.get(j.ID); ok {
				j.Progress = &p
			}
			all = append(all, j)
			return nil
		})
	})
	slices.SortFunc(all, func(a, b Job) int { return int(int64(b.Number) - int64(a.Number)) })
	return all, err
}
