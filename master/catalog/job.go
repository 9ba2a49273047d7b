package catalog

import (
	"context"
	"crypto/ed25519"
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
	Kind      string // wire.JobVerify, JobHydrate or JobExport; prove jobs are made by the catalog itself
	Restpoint string // id or M/latest
	Disk      *int   // number; nil: all
	Target    string // hydrate: a volume of the node
	Overwrite bool
	Node      string // the only one that may lease it; empty: any
}

// Job is work for a node, or for a person's tool.
type Job struct {
	ID        string          `json:"id"`
	Number    uint64          `json:"number"` // order of creation
	Kind      string          `json:"kind"`
	Project   string          `json:"project"`
	State     JobState        `json:"state"`
	Restpoint string          `json:"restpoint,omitempty"`
	Machine   string          `json:"machine,omitempty"` // whose packs it may read unproven
	Disk      *int            `json:"disk,omitempty"`
	Packs     []wire.JobPack  `json:"packs,omitempty"` // prove; dropped when the job is over
	Target    string          `json:"target,omitempty"`
	Overwrite bool            `json:"overwrite,omitempty"`
	Node      string          `json:"node,omitempty"`
	Holder    string          `json:"holder,omitempty"`
	Attempts  int             `json:"attempts"`
	Damaged   int64           `json:"damaged"` // damages reported through it
	Created   time.Time       `json:"created"`
	Started   time.Time       `json:"started"`
	Ended     time.Time       `json:"ended"`
	Progress  *wire.Progress  `json:"progress,omitempty"`
	Result    *wire.JobResult `json:"result,omitempty"`
	Failure   *wire.Failure   `json:"failure,omitempty"`
}

// lease is what the present holder's lease is kept under.
func (j *Job) lease() string { return fmt.Sprintf("%s/%d", j.ID, j.Attempts) }

var jobs = table[Job]{"jobs"}

// tableEnded lists jobs that are over: number → job.
const tableEnded = "ended_jobs"

// CreateJob queues a job.
func (c *Catalog) CreateJob(ctx context.Context, spec JobSpec) (Job, error) {
	var j Job
	err := c.db.Update(ctx, func(w store.Writer) error {
		switch spec.Kind {
		case wire.JobVerify, wire.JobExport:
		case wire.JobHydrate:
			if spec.Target == "" {
				return badRequest("a hydrate job needs a target")
			}
		default:
			return badRequest("there are no jobs of kind %.40q", spec.Kind)
		}
		p, err := findRestpoint(w, spec.Restpoint)
		if err != nil {
			return err
		}
		if spec.Disk != nil && (*spec.Disk < 0 || *spec.Disk >= len(p.Disks)) {
			return notFound("restpoint %s has no disk %d", p.ID, *spec.Disk).WithNext(fmt.Sprintf("its disks are 0 to %d", len(p.Disks)-1))
		}
		j = Job{
			Kind: spec.Kind, Project: p.Project, Restpoint: p.ID, Machine: p.Machine, Disk: spec.Disk,
			Target: spec.Target, Overwrite: spec.Overwrite, Node: spec.Node,
		}
		return c.queueJob(w, &j)
	})
	if err != nil {
		return Job{}, err
	}
	c.work.fire()
	return j, nil
}

// queueJob fills in a new job's id and stores it.
func (c *Catalog) queueJob(w store.Writer, j *Job) error {
	active := 0
	err := w.Scan(tableQueue, nil, nil, func(_, _ []byte) error {
		active++
		return nil
	})
	if err != nil {
		return err
	}
	if active >= maxActiveJobs && j.Kind != wire.JobProve {
		return wire.NewProblem(429, wire.CodeFull, "%d jobs are queued", active).WithNext("wait, or cancel some")
	}
	if j.Number, err = nextUint(w, metaJobSeq); err != nil {
		return err
	}
	j.ID, j.State, j.Created = newID(), JobQueued, c.clock.Now()
	return putJob(w, j)
}

// putJob is the only writer of a job's rows.
func putJob(w store.Writer, j *Job) error {
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

// LeaseJob gives a node the oldest job that it can do, and waits for one for at most req.Wait. Without one it returns nil.
func (c *Catalog) LeaseJob(ctx context.Context, node string, req wire.LeaseRequest) (*wire.Job, error) {
	var leased *Job
	_, err := c.work.poll(ctx, time.Duration(req.Wait), func() (bool, error) {
		candidate, err := c.findJob(ctx, node, req.Kinds)
		if err != nil || candidate == "" {
			return false, err
		}
		leased, err = c.takeJob(ctx, candidate, node, func(j *Job) bool { return j.State == JobQueued && j.fits(node, req.Kinds) })
		return leased != nil, err
	})
	c.seen.set(node, c.clock.Now())
	if err != nil || leased == nil {
		return nil, err
	}
	return c.wireJob(ctx, leased)
}

func (j *Job) fits(node string, kinds []string) bool {
	return (j.Node == "" || j.Node == node) && slices.Contains(kinds, j.Kind)
}

func (c *Catalog) findJob(ctx context.Context, node string, kinds []string) (string, error) {
	found := ""
	err := c.db.View(ctx, func(r store.Reader) error {
		return r.Scan(tableQueue, nil, nil, func(_, id []byte) error {
			j, err := jobs.get(r, id)
			if err != nil || j.State != JobQueued || !j.fits(node, kinds) {
				return err
			}
			found = j.ID
			return store.ErrStop
		})
	})
	return found, err
}

// takeJob leases a job if it still may be; nil when not.
func (c *Catalog) takeJob(ctx context.Context, id, holder string, may func(*Job) bool) (*Job, error) {
	var taken *Job
	err := c.db.Update(ctx, func(w store.Writer) error {
		taken = nil
		j, err := getJob(w, id)
		if err != nil || !may(&j) {
			return err
		}
		j.State, j.Holder, j.Started = JobLeased, holder, c.clock.Now()
		j.Attempts++
		taken = &j
		return putJob(w, &j)
	})
	if err != nil || taken == nil {
		return nil, err
	}
	c.jobs.grant(taken.lease())
	return taken, nil
}

// HoldJob gives one job, an export of the holder's own making, to a person's tool. The same holder may ask again.
func (c *Catalog) HoldJob(ctx context.Context, holder, id string) (*wire.Job, error) {
	j, err := c.takeJob(ctx, id, holder, func(j *Job) bool {
		return j.Kind == wire.JobExport && (j.State == JobQueued || j.State == JobLeased && j.Holder == holder)
	})
	if err != nil {
		return nil, err
	}
	if j == nil {
		return nil, busy("job %.64q is no export, or somebody else holds it", id)
	}
	return c.wireJob(ctx, j)
}

// wireJob adds what the holder needs to do the job.
func (c *Catalog) wireJob(ctx context.Context, j *Job) (*wire.Job, error) {
	keys, err := c.keys.Keys(ctx, j.Project)
	if err != nil {
		return nil, err
	}
	out := &wire.Job{
		ID: j.ID, Kind: j.Kind, Project: j.Project, Keys: keys.MarshalBinary(), Disk: j.Disk, Packs: j.Packs,
		Target: j.Target, Overwrite: j.Overwrite, StagingHosts: c.opt.StagingHosts, StagingCA: c.opt.StagingCA, Lease: c.jobLease(),
	}
	if j.Restpoint == "" {
		return out, nil
	}
	err = c.db.View(ctx, func(r store.Reader) error {
		p, err := restpoints.get(r, []byte(j.Restpoint))
		if err != nil {
			return fmt.Errorf("read restpoint of job %s: %w", j.ID, err)
		}
		object, err := r.Get(tableObjects, []byte(j.Restpoint))
		if err != nil {
			return fmt.Errorf("read restpoint of job %s: %w", j.ID, err)
		}
		m, err := machines.get(r, []byte(p.Machine))
		if err != nil {
			return fmt.Errorf("read machine of job %s: %w", j.ID, err)
		}
		out.Restpoint = &wire.Restpoint{
			ID: p.ID, Machine: p.Machine, Sequence: p.Sequence, Object: slices.Clone(object),
			AgentKey: m.SigningKey, MasterKey: c.masterKey.Public().(ed25519.PublicKey),
		}
		return nil
	})
	return out, err
}

func (c *Catalog) jobLease() wire.JobLease { return wire.JobLease{TTL: wire.Duration(c.opt.JobTTL)} }
