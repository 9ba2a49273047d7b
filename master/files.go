package master

import (
	"context"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/api"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Files reads files of restpoints for the API, and is closed with the master.
type Files interface {
	api.Files
	Close()
}

// filesHolder is who holds the jobs with which the master itself looks into restpoints. No agent, node or person is called so.
const filesHolder = "master"

// Jobs is to a reader in this process what the routes of nodes are to one elsewhere: jobs that the master holds itself. It may be used by any number
// of goroutines. Staging is reached as this process reaches it, which need not be the way of others.
type Jobs struct {
	catalog *catalog.Catalog
	bucket  *bucket
}

// Export makes a job that reads a restpoint, and holds it.
func (j *Jobs) Export(ctx context.Context, restpoint string) (*wire.Job, error) {
	job, err := j.catalog.CreateJob(ctx, catalog.JobSpec{Kind: wire.JobExport, Restpoint: restpoint, Target: "files shown by the master"})
	if err != nil {
		return nil, err
	}
	held, err := j.catalog.HoldJob(ctx, filesHolder, job.ID)
	if err != nil {
		return nil, err
	}
	held.StagingHosts = []string{j.bucket.own}
	return held, nil
}

// Resolve says where ids are stored.
func (j *Jobs) Resolve(ctx context.Context, job string, ids []chunker.ID) ([]wire.Location, error) {
	return j.catalog.JobResolve(ctx, filesHolder, job, ids)
}

// URLs gives the right to read packs.
func (j *Jobs) URLs(ctx context.Context, job string, r *wire.URLRequest) (*wire.URLResponse, error) {
	out, err := j.catalog.JobURLs(ctx, filesHolder, job, *r) // says which of them may be read
	if err != nil {
		return nil, err
	}
	for i, name := range r.Packs {
		if out.URLs[i] == "" {
			continue
		}
		pack, err := format.ParsePackID(name)
		if err != nil {
			return nil, fmt.Errorf("sign download: %w", err)
		}
		signed, err := j.bucket.s3.SignGet(ctx, pack.Name(), time.Duration(out.Valid))
		if err != nil {
			return nil, fmt.Errorf("sign download: %w", err)
		}
		out.URLs[i] = signed.URL
	}
	return &out, nil
}

// Quarantine reports copies that cannot be used.
func (j *Jobs) Quarantine(ctx context.Context, job string, damage []wire.Damage) error {
	return j.catalog.JobQuarantine(ctx, filesHolder, job, damage)
}

// RenewJob keeps a job.
func (j *Jobs) RenewJob(ctx context.Context, job string, p *wire.Progress) (*wire.JobLease, error) {
	lease, err := j.catalog.RenewJob(ctx, filesHolder, job, *p)
	return &lease, err
}

// CompleteJob ends a job.
func (j *Jobs) CompleteJob(ctx context.Context, job string, r *wire.JobResult) error {
	return j.catalog.CompleteJob(ctx, filesHolder, job, *r)
}

// FailJob ends a job that could not be done.
func (j *Jobs) FailJob(ctx context.Context, job string, f *wire.Failure) error {
	return j.catalog.FailJob(ctx, filesHolder, job, *f)
}
