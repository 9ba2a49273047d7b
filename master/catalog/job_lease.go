package catalog

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// lease is what the present holder's lease is kept under.
func (j *Job) lease() string { return fmt.Sprintf("%s/%d", j.ID, j.Attempts) }

// LeaseJob gives a node the oldest job that it can do, and waits for one for at most req.Wait. Without one it returns nil.
func (c *Catalog) LeaseJob(ctx context.Context, node string, req wire.LeaseRequest) (*wire.Job, error) {
	leased, err := c.retakeJob(ctx, node, req.Lane)
	if err != nil {
		return nil, err
	}
	if leased != nil {
		return c.wireJob(ctx, leased)
	}
	_, err = c.work.poll(ctx, time.Duration(req.Wait), func() (bool, error) {
		candidate, err := c.findJob(ctx, node, &req)
		if err != nil || candidate == "" {
			return false, err
		}
		leased, err = c.takeJob(ctx, candidate, node, req.Lane, func(j *Job) bool { return j.State == JobQueued && j.fits(node, &req) })
		return leased != nil, err
	})
	c.seen.set(node, c.clock.Now())
	if err != nil || leased == nil {
		return nil, err
	}
	return c.wireJob(ctx, leased)
}

func (j *Job) fits(node string, req *wire.LeaseRequest) bool {
	return (j.Node == "" || j.Node == node) && slices.Contains(req.Kinds, j.Kind) &&
		(j.Provider == "" || slices.Contains(req.Providers, j.Provider))
}

// rank says who comes first: people wait for most jobs, for some nobody does now, and for a proof never.
func (j *Job) rank() int {
	switch {
	case j.Kind == wire.JobProve:
		return 2
	case j.Background:
		return 1
	}
	return 0
}

// findJob returns the oldest job of the best rank that a node may lease.
func (c *Catalog) findJob(ctx context.Context, node string, req *wire.LeaseRequest) (string, error) {
	found, best := "", 0
	err := c.db.View(ctx, func(r store.Reader) error {
		found = ""
		return r.Scan(tableQueue, nil, nil, func(_, id []byte) error {
			j, err := jobs.get(r, id)
			if err != nil || j.State != JobQueued || !j.fits(node, req) || found != "" && j.rank() >= best {
				return err
			}
			if found, best = j.ID, j.rank(); best == 0 {
				return store.ErrStop
			}
			return nil
		})
	})
	return found, err
}

// retakeJob gives a caller that asks for a job the one that it has already, as another attempt: the answer was lost on its way, the master died before it, or the
// job's end could not be told. nil if there is none.
func (c *Catalog) retakeJob(ctx context.Context, node, lane string) (*Job, error) {
	if lane == "" || len(lane) > wire.MaxNameLength {
		return nil, nil
	}
	mine := func(j *Job) bool {
		// A lease that is over is left to whoever found it so.
		return j.State == JobLeased && j.Holder == node && j.Lane == lane && j.Kind != wire.JobExport && j.Attempts < c.opt.MaxAttempts && c.jobs.alive(j.lease())
	}
	found := ""
	err := c.db.View(ctx, func(r store.Reader) error {
		found = ""
		return r.Scan(tableQueue, nil, nil, func(_, id []byte) error {
			j, err := jobs.get(r, id)
			if err != nil || !mine(&j) {
				return err
			}
			found = j.ID
			return store.ErrStop
		})
	})
	if err != nil || found == "" {
		return nil, err
	}
	return c.takeJob(ctx, found, node, lane, mine)
}

// takeJob leases a job if it still may be; nil when not.
func (c *Catalog) takeJob(ctx context.Context, id, holder, lane string, may func(*Job) bool) (*Job, error) {
	var taken *Job
	last := ""
	err := c.db.Update(ctx, func(w store.Writer) error {
		taken = nil
		j, err := getJob(w, id)
		if err != nil || !may(&j) {
			return err
		}
		last = j.lease()
		j.State, j.Holder, j.Lane, j.Started = JobLeased, holder, lane, c.clock.Now()
		j.Attempts++
		taken = &j
		return putJob(w, &j)
	})
	if err != nil || taken == nil {
		return nil, err
	}
	c.jobs.drop(last)
	c.jobs.grant(taken.lease())
	return taken, nil
}

// HoldJob gives one job, an export of the holder's own making, to a person's tool. The same holder may ask again.
func (c *Catalog) HoldJob(ctx context.Context, holder, id string) (*wire.Job, error) {
	j, err := c.takeJob(ctx, id, holder, "", func(j *Job) bool {
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
		Target: j.Target, Volumes: j.Volumes, Convert: j.Convert, Provider: j.Provider, Overwrite: j.Overwrite, StagingHosts: c.opt.StagingHosts, StagingCA: c.opt.StagingCA, Lease: c.jobLease(),
		Trace: cmp.Or(j.Trace, j.Restpoint),
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
