package hydrator

import (
	"context"
	"crypto/ed25519"

	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/view"
	"github.com/openmigrate/openmigrate/wire"
)

// BrowseOptions change a Browse. nil is the zero value.
type BrowseOptions struct {
	MasterKey ed25519.PublicKey // the key that restpoints must be countersigned with; nil: the one that the job names
	Reader    reader.Options    // MasterKey in it is not looked at; Buffers, MaxGet: 0 is 6 of 4 MiB
	View      view.Options
}

// Browse opens a view of a job's restpoint, keeps the job's lease while use runs, so that nothing of it is deleted, and then ends the job.
// The context that use gets ends when the lease is lost: from then on reads fail, too.
func Browse(ctx context.Context, c JobClient, job *wire.Job, o *BrowseOptions, use func(context.Context, *view.View) error) error {
	if o == nil {
		o = &BrowseOptions{}
	}
	ro := o.Reader
	if ro.MaxGet == 0 {
		ro.MaxGet = 4 << 20
	}
	if ro.Buffers == 0 {
		ro.Buffers = 6
	}
	_, err := hold(ctx, c, job, nil, func(ctx context.Context, _ func(wire.Progress)) (res wire.JobResult, err error) {
		r, err := reader.New(job, c, &ro)
		if err != nil {
			return res, err
		}
		defer r.Close()
		rp, err := reader.OpenRestpoint(job, r.Keys(), o.MasterKey)
		if err != nil {
			return res, err
		}
		v, err := view.New(ctx, r, rp, &o.View)
		if err != nil {
			return res, err
		}
		defer v.Close()
		err = use(ctx, v)
		res.Fetched = r.Fetched()
		return res, err
	})
	return err
}
