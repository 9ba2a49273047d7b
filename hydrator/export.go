package hydrator

import (
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/wire"
)

// ExportOptions change an Export. nil is the zero value.
type ExportOptions struct {
	Overwrite bool                // write over whatever the target holds
	Journal   string              // where the volume's journal is; empty: beside a file; needed for a device
	Progress  func(wire.Progress) // called now and then, from any goroutine
	MasterKey ed25519.PublicKey   // the key that restpoints must be countersigned with; nil: the one that the job names
	Reader    reader.Options      // MasterKey in it is not looked at
}

// Export writes one disk of a job's restpoint onto a file or block device, keeps the job's lease meanwhile, and ends the job.
// A target that an earlier Export wrote gets only the difference. ErrDamaged when staging lacks something: the rest is written.
// The errors of package volume say why a target is refused.
func Export(ctx context.Context, c JobClient, job *wire.Job, disk int, path string, o *ExportOptions) (wire.JobResult, error) {
	if o == nil {
		o = &ExportOptions{}
	}
	ro := restoreOptions{overwrite: o.Overwrite, journal: o.Journal}
	return hold(ctx, c, job, o.Progress, func(ctx context.Context, show func(wire.Progress)) (res wire.JobResult, err error) {
		r, err := reader.New(job, c, &o.Reader)
		if err != nil {
			return res, err
		}
		defer r.Close()
		rp, err := reader.OpenRestpoint(job, r.Keys(), o.MasterKey)
		if err != nil {
			return res, err
		}
		if job.Disk != nil && *job.Disk != disk {
			return res, fmt.Errorf("export disk %d: the job is for disk %d", disk, *job.Disk)
		}
		ro.progress = show
		return restore(ctx, r, rp, disk, path, ro)
	})
}
