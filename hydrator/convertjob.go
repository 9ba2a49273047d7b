package hydrator

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/hydrator/convert/apart"
	"github.com/openmigrate/openmigrate/wire"
)

// convertVolumes makes the system on a machine's volumes start elsewhere. The volumes are this node's alone meanwhile: the locks are held by open
// descriptors, which the process that converts has, too.
func (n *node) convertVolumes(ctx context.Context, job *wire.Job, show func(wire.Progress)) (res wire.JobResult, err error) {
	if len(job.Volumes) == 0 || len(job.Volumes) > wire.MaxLaunchDisks {
		return res, fmt.Errorf("convert: job %s names %d volumes; want 1 to %d", job.ID, len(job.Volumes), wire.MaxLaunchDisks)
	}
	target, err := conversion(job.Convert)
	if err != nil {
		return res, err
	}
	if target == nil {
		return res, fmt.Errorf("convert: job %s does not say for what", job.ID)
	}
	volumes, journals, err := n.openVolumes(ctx, job)
	defer func() {
		for _, v := range volumes {
			err = errors.Join(err, v.Close())
		}
	}()
	if err != nil {
		return res, err
	}
	var disks []apart.Disk
	for i, v := range volumes {
		if err := spoil(v, journals[i]); err != nil {
			return res, err
		}
		disks = append(disks, apart.Disk{File: v.File()})
	}
	var report *convert.Report
	if _, report, err = apart.Convert(ctx, disks, *target, n.apart(show)); err != nil {
		return res, err
	}
	for _, v := range volumes {
		if err := v.Sync(); err != nil {
			return res, err
		}
	}
	res.Report, err = boundReport(report)
	return res, err
}
