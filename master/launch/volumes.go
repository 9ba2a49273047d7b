package launch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// pending: a node looks whether the machine can be made to start at the target, before anything is made.
func pending(ctx context.Context, r *run) (string, error) {
	next, point := wire.LaunchHydrating, r.row.Restpoint
	if r.row.Sync {
		next, point = wire.LaunchSyncing, r.row.Base
	}
	if err := r.Catalog.KeepRestpoint(ctx, point, r.row.ID); err != nil {
		return "", err
	}
	if !r.row.Template.AsIs {
		spec := catalog.JobSpec{ID: r.row.token("inspect"), Kind: wire.JobInspect, Restpoint: point, Convert: r.row.conversion()}
		if _, done, err := r.job(ctx, spec, "look at the system"); !done {
			return "", err
		}
	}
	j, done, err := r.job(ctx, catalog.JobSpec{ID: r.row.token("measure"), Kind: wire.JobMeasure, Restpoint: point}, "measure the disks")
	if !done {
		return "", err
	}
	p, err := r.Catalog.Restpoint(ctx, point)
	if err != nil {
		return "", err
	}
	data := dataOf(&p, j.Result)
	if err := r.save(ctx, func(l *row) { l.Data = data }); err != nil {
		return "", err
	}
	return next, r.checkRoom(ctx, &p)
}

// hydrating: volumes with the restpoint's content, which this launch alone uses.
func hydrating(ctx context.Context, r *run) (string, error) {
	if r.row.Template.Instant {
		return r.serve(ctx)
	}
	ready, err := r.volumes(ctx)
	if err != nil || !ready {
		return "", err
	}
	if r.row.Template.AsIs {
		return wire.LaunchStarting, nil
	}
	return wire.LaunchConverting, nil
}

// volumes brings every disk on by what it misses.
func (r *run) volumes(ctx context.Context) (bool, error) {
	if r.row.Warm {
		return r.fromWarm(ctx)
	}
	ready, total := true, wire.Progress{}
	for n := range r.row.Disks {
		ok, err := r.hydrate(ctx, n, &total)
		if err != nil {
			return false, fmt.Errorf("disk %d: %w", n, err)
		}
		ready = ready && ok
	}
	r.show(&total)
	return ready, nil
}

// hydrate brings one volume of the launch's own to the restpoint's content.
func (r *run) hydrate(ctx context.Context, n int, total *wire.Progress) (bool, error) {
	d := r.row.Disks[n]
	if d.Hydrated {
		total.Total += d.Size
		total.Done += d.Size
		return true, nil
	}
	if d.Volume == "" {
		v, err := r.p.CreateVolume(ctx, r.row.volume(r.System, n))
		if err != nil {
			return false, err
		}
		if err := r.save(ctx, func(l *row) { l.Disks[n].Volume = v.ID }); err != nil {
			return false, err
		}
		d.Volume = v.ID
	}
	v, ok, err := r.attach(ctx, d.Volume)
	if err != nil || !ok {
		return false, err
	}
	spec := catalog.JobSpec{ID: r.row.numbered("hydrate", n), Kind: wire.JobHydrate, Restpoint: r.row.Restpoint, Disk: &n, Volumes: []wire.Volume{v}, Provider: r.row.Provider}
	j, done, err := r.job(ctx, spec, "copy the data")
	addProgress(total, j.Progress, d.Size, done)
	if err != nil || !done {
		return false, err
	}
	if err := r.p.DetachVolume(ctx, d.Volume); err != nil {
		return false, err
	}
	return true, r.save(ctx, func(l *row) { l.Disks[n].Hydrated = true })
}

// attach makes a volume visible to whoever writes volumes of this provider.
func (s *Service) attachTo(ctx context.Context, p providers.Provider, provider, id string) (wire.Volume, bool, error) {
	v, err := p.Volume(ctx, id)
	if err != nil {
		return wire.Volume{}, false, err
	}
	switch {
	case v.State == providers.StateFailed:
		return wire.Volume{}, false, refuse("volume %s failed at the provider: %s", id, v.Reason)
	case v.State != providers.StateAvailable:
		return wire.Volume{}, false, nil
	case v.Attachment == nil:
		if err := p.AttachVolume(ctx, id, s.Writers[provider]); err != nil {
			return wire.Volume{}, false, err
		}
		if v, err = p.Volume(ctx, id); err != nil {
			return wire.Volume{}, false, err
		}
	}
	if v.Attachment == nil || !v.Attachment.Ready {
		return wire.Volume{}, false, nil
	}
	return wire.Volume{ID: id, Path: v.Attachment.Path, Serial: v.Attachment.Serial, Size: v.Size}, true, nil
}

func (r *run) attach(ctx context.Context, id string) (wire.Volume, bool, error) {
	return r.attachTo(ctx, r.p, r.row.Provider, id)
}

// waitForNode is how long a job may wait for a node before the launch gives up.
const waitForNode = 30 * time.Minute

// job makes sure that a job was asked for, and reports whether it is done. An error says what became of it otherwise.
func (r *run) job(ctx context.Context, spec catalog.JobSpec, doing string) (catalog.Job, bool, error) {
	spec.Trace = r.row.ID
	j, err := r.Catalog.CreateJob(ctx, spec)
	if err != nil {
		return j, false, fmt.Errorf("%s: %w", doing, err)
	}
	if j.State == catalog.JobLeased {
		if j, err = r.Catalog.Job(ctx, j.ID); err != nil {
			return j, false, err
		}
	}
	if err := r.sayAgain(ctx, &j, doing); err != nil {
		return j, false, err
	}
	switch j.State {
	case catalog.JobDone:
		return j, true, nil
	case catalog.JobCancelled:
		return j, false, refuse("%s: job %s was cancelled; launch again", doing, j.ID)
	case catalog.JobFailed:
		return j, false, failedJob(&j, doing)
	case catalog.JobQueued:
		waits := r.Clock.Now().Sub(j.Created)
		if waits > waitForNode {
			return j, false, refuse("%s: no node took %s in %s; %s", doing, jobWords(&j), roughly(waits), nodeHelp(&j))
		}
		if waits > 5*time.Second {
			return j, false, r.note(ctx, "%s waits for a node; %s", jobWords(&j), nodeHelp(&j))
		}
	}
	if j.State == catalog.JobLeased && r.row.step().Message != "" {
		return j, false, r.note(ctx, "")
	}
	return j, false, nil
}

// sayAgain tells once that a job is tried again, and why: its time was up, its node died, staging did not answer.
func (r *run) sayAgain(ctx context.Context, j *catalog.Job, doing string) error {
	failed := j.Attempts
	if j.State == catalog.JobLeased {
		failed--
	}
	if j.Failure == nil || failed < 1 || j.State != catalog.JobLeased && j.State != catalog.JobQueued {
		return nil
	}
	if j.Disk != nil && len(r.row.Disks) > 1 {
		doing = fmt.Sprintf("%s of disk %d", doing, *j.Disk)
	}
	line := clean(fmt.Sprintf("%s: attempt %d came to nothing, it is tried again: %s", doing, failed, j.Failure.Message), maxLine)
	if slices.ContainsFunc(r.row.Log, func(l wire.LaunchLine) bool { return l.Message == line }) {
		return nil
	}
	return r.save(ctx, func(l *row) { l.say(r.Clock.Now(), "%s", line) })
}

func jobWords(j *catalog.Job) string { return "a job of kind " + j.Kind }

func nodeHelp(j *catalog.Job) string {
	if j.Provider == "" {
		return "see openmigrate nodes ls, or start one: openmigrate hydrator"
	}
	return fmt.Sprintf("see openmigrate nodes ls, or start one that can write volumes of %s: openmigrate hydrator --provider", j.Provider)
}

// failedJob is the end of a launch whose job failed.
func failedJob(j *catalog.Job, doing string) error {
	f := j.Failure
	if f == nil {
		return refuse("%s: job %s failed", doing, j.ID)
	}
	if f.Code == wire.CodeRefused {
		return refuse("%s", f.Message)
	}
	return refuse("%s: %s failed after %d attempts: %s", doing, jobWords(j), j.Attempts, f.Message)
}

func roughly(d time.Duration) time.Duration { return d.Round(time.Second) }

// addProgress adds what a job says of one disk.
func addProgress(total, p *wire.Progress, size int64, done bool) {
	total.Phase = "copying"
	switch {
	case done:
		total.Total += size
		total.Done += size
	case p == nil:
		total.Total += size
	default:
		total.Total += p.Total
		total.Done += min(p.Done, p.Total)
		total.Zero += p.Zero
		total.Same += p.Same
		total.Sent += p.Sent
		total.Chunks += p.Chunks
	}
}
