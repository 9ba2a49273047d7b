package hydrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/wire"
)

// volumeName is what a node's volumes may be called: nothing that leads out of their folder, or hides in it.
var volumeName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

// ErrName: a volume of that name is not possible.
var ErrName = errors.New("volume name is not allowed")

// VolumePath is where a node keeps the volume of that name. ErrName unless the name is 1 to 100 lower-case letters, digits, dots,
// dashes and underscores, the first a letter or digit.
func VolumePath(dataDir, name string) (string, error) {
	if !volumeName.MatchString(name) {
		return "", fmt.Errorf("%w: %.120q: want lower-case letters, digits, dots, dashes and underscores", ErrName, name)
	}
	return filepath.Join(dataDir, "volumes", name+".raw"), nil
}

// work does a node's job, without its lease.
func (n *node) work(ctx context.Context, job *wire.Job, show func(wire.Progress)) (res wire.JobResult, err error) {
	if job.Kind == wire.JobConvert {
		return n.convertVolumes(ctx, job, show)
	}
	r, err := reader.New(job, n.o.Client, &n.o.Reader)
	if err != nil {
		return res, err
	}
	defer r.Close()
	if job.Kind == wire.JobProve {
		return prove(ctx, r, n.o.Client, job, show)
	}
	rp, err := reader.OpenRestpoint(job, r.Keys(), n.o.MasterKey)
	if err != nil {
		return res, err
	}
	if job.Disk != nil && (*job.Disk < 0 || *job.Disk >= len(rp.Disks)) {
		return res, fmt.Errorf("%s disk %d: restpoint %s has disks 0 to %d", job.Kind, *job.Disk, rp.ID, len(rp.Disks)-1)
	}
	switch job.Kind {
	case wire.JobVerify:
		return verify(ctx, r, rp, job.Disk, show)
	case wire.JobInspect:
		return n.inspect(ctx, r, rp, job, show)
	case wire.JobMeasure:
		return measure(ctx, r, rp, show)
	case wire.JobServe:
		return n.serve(ctx, r, rp, job, show)
	case wire.JobHydrate:
		if job.Disk == nil {
			return res, fmt.Errorf("hydrate: job %s names no disk", job.ID)
		}
		if len(job.Volumes) > 0 {
			return n.hydrateVolume(ctx, r, rp, job, show)
		}
		path, err := VolumePath(n.o.DataDir, job.Target)
		if err != nil {
			return res, err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return res, fmt.Errorf("make folder of volumes: %w", err)
		}
		// The folder is the node's own: what is in doubt there is settled by reading it.
		return restore(ctx, r, rp, *job.Disk, path, restoreOptions{overwrite: job.Overwrite, verify: true, progress: show})
	}
	return res, fmt.Errorf("job %s is of unknown kind %.40q; upgrade this node", job.ID, job.Kind)
}
