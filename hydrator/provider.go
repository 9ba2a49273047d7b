package hydrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// volumeID is what a provider's volume may be called: its journal has that name.
var volumeID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

// ErrProvider: this node was not told that it may write volumes of that provider.
var ErrProvider = errors.New("this node does not write volumes of that provider")

// checkProviders makes sure that each provider's folder is one. An empty one stands for none: its volumes are disks of this host.
func checkProviders(providers map[string]string) error {
	for name, folder := range providers {
		if folder == "" {
			continue
		}
		st, err := os.Stat(folder)
		switch {
		case err != nil:
			return fmt.Errorf("folder of provider %s: %w", name, err)
		case !st.IsDir() || !filepath.IsAbs(folder):
			return fmt.Errorf("folder of provider %s: %s is not the absolute path of a folder", name, folder)
		}
	}
	return nil
}

// providers are the names that the master is told.
func (n *node) providers() []string { return slices.Sorted(maps.Keys(n.o.Providers)) }

// writerWait is how long another writer of a volume is waited for: a node that lost its job, or was killed, and whose processes end just now.
const (
	writerWait  = 30 * time.Second
	writerPause = 100 * time.Millisecond
)

// openVolumes opens a job's volumes for this process alone, waits for whoever is about to let go of one, and makes sure that the job is still this node's.
// It returns where their journals are. The volumes are the caller's, also those that come with an error.
func (n *node) openVolumes(ctx context.Context, job *wire.Job) (volumes []*volume.Volume, journals []string, err error) {
	for i := range job.Volumes {
		v, name, err := n.openVolume(job.Provider, &job.Volumes[i])
		for waited := time.Duration(0); errors.Is(err, volume.ErrWriter) && waited < writerWait; waited += writerPause {
			timer := time.NewTimer(writerPause)
			select {
			case <-ctx.Done():
				timer.Stop()
				return volumes, journals, context.Cause(ctx)
			case <-timer.C:
			}
			v, name, err = n.openVolume(job.Provider, &job.Volumes[i])
		}
		if err != nil {
			return volumes, journals, err
		}
		volumes, journals = append(volumes, v), append(journals, name)
	}
	return volumes, journals, n.confirm(ctx, job)
}

// openVolume opens a provider's volume for this process alone and returns where its journal is.
func (n *node) openVolume(provider string, w *wire.Volume) (*volume.Volume, string, error) {
	fail := func(err error) (*volume.Volume, string, error) {
		return nil, "", fmt.Errorf("volume %.140q of provider %.80q: %w", w.ID, provider, err)
	}
	folder, ok := n.o.Providers[provider]
	switch {
	case !ok:
		return fail(ErrProvider)
	case !volumeID.MatchString(w.ID):
		return fail(ErrName)
	case (w.Path == "") == (w.Serial == ""):
		return fail(errors.New("the job must name either a path or a serial number"))
	case w.Path != "" && folder == "":
		return fail(fmt.Errorf("%w: it has no folder here, and the job names a path", volume.ErrOutside))
	}
	var v *volume.Volume
	var err error
	if w.Path != "" {
		v, err = volume.OpenWithin(folder, w.Path)
	} else {
		v, err = volume.OpenSerial(w.Serial)
	}
	if err != nil {
		return fail(err)
	}
	if v.Size() < w.Size {
		return fail(errors.Join(fmt.Errorf("%w: %d of %d bytes", volume.ErrTooSmall, v.Size(), w.Size), v.Close()))
	}
	return v, filepath.Join(n.journals(), w.ID+journal.Suffix), nil
}

// hydrateVolume writes a disk onto a provider's volume, whatever it holds: it was made for that.
func (n *node) hydrateVolume(ctx context.Context, r *reader.Reader, rp *format.Restpoint, job *wire.Job, show func(wire.Progress)) (res wire.JobResult, err error) {
	if len(job.Volumes) != 1 {
		return res, fmt.Errorf("hydrate: job %s names %d volumes; want one", job.ID, len(job.Volumes))
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
	return restoreOnto(ctx, r, rp, &rp.Disks[*job.Disk], volumes[0], restoreOptions{overwrite: job.Overwrite, owned: true, verify: true, journal: journals[0], progress: show})
}

// spoil notes, before somebody changes a volume, that nothing is known of what it holds.
func spoil(v *volume.Volume, name string) error {
	l, damaged := openJournal(name)
	if damaged != nil || !l.Found() {
		return nil // nothing is known as it is
	}
	st := l.State()
	held := st.Holds
	if held == nil {
		held = st.To
	}
	id, err := v.Identity()
	if err != nil {
		return err
	}
	return l.Begin(id, *held, true)
}
