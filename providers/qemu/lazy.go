package qemu

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/openmigrate/openmigrate/providers"
)

// CreateLazyVolume implements providers.LazyVolumes: a qcow2 overlay on the view.
func (p *Provider) CreateLazyVolume(ctx context.Context, spec providers.VolumeSpec, view providers.View) (providers.Volume, error) {
	const longest = 107 // bytes of a unix socket's path
	switch {
	case spec.From.Kind != providers.FromNothing, (view.File == "") == (view.Socket == ""),
		view.File != "" && !filepath.IsAbs(view.File), view.Socket != "" && (!filepath.IsAbs(view.Socket) || len(view.Socket) > longest):
		return providers.Volume{}, fmt.Errorf("create lazy volume: %w: source %q, %s (want no source, and the absolute path of a file, or of a socket with up to %d bytes)",
			providers.ErrInvalid, spec.From.Kind, view, longest)
	}
	c := p.capabilities()
	if !c.Lazy {
		return providers.Volume{}, fmt.Errorf("create lazy volume: %w: it needs %s; install the package qemu-utils", providers.ErrInvalid, p.opts.QEMUImg)
	}
	return p.createVolume(ctx, spec, &view)
}

// FillVolume implements providers.LazyVolumes by a job in QEMU, which goes on without us.
func (p *Provider) FillVolume(ctx context.Context, id string) error {
	i, n, err := p.lazy(id)
	if err != nil || n < 0 {
		return err
	}
	err = p.speak(ctx, i, func(q *qmp) error {
		job, err := findJob(ctx, q, jobName(n))
		if err != nil || job != nil && (job.Status != "concluded" || job.Error == "") {
			return err // it is at it, or done
		}
		if job != nil {
			if err := q.run(ctx, "job-dismiss", object{"id": job.ID}, nil); err != nil {
				return err
			}
		}
		// The job stays when it has ended, so that its outcome is seen whenever somebody looks.
		return q.run(ctx, "block-stream", object{"job-id": jobName(n), "device": nodeName(n), "auto-dismiss": false}, nil)
	})
	if err != nil {
		return fmt.Errorf("fill volume %s: %w", id, err)
	}
	return nil
}

// lazy returns the running instance of a lazy volume and which of its disks it is; -1 if the volume is lazy no more.
func (p *Provider) lazy(id string) (*instance, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.known(id)
	if err != nil {
		return nil, 0, fmt.Errorf("fill: %w", err)
	}
	if !v.Volume.Lazy {
		return nil, -1, nil
	}
	i := p.userOf(id)
	if i == nil || i.Instance.State != providers.StateRunning {
		return nil, 0, fmt.Errorf("fill volume %s: %w: no instance runs on it; start one", id, providers.ErrConflict)
	}
	return i, slices.IndexFunc(i.Instance.Disks, func(d providers.InstanceDisk) bool { return d.Volume == id }), nil
}

func jobName(n int) string { return fmt.Sprintf("fill%d", n) }

type job struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

func findJob(ctx context.Context, q *qmp, id string) (*job, error) {
	var jobs []job
	if err := q.run(ctx, "query-jobs", nil, &jobs); err != nil {
		return nil, err
	}
	if at := slices.IndexFunc(jobs, func(j job) bool { return j.ID == id }); at >= 0 {
		return &jobs[at], nil
	}
	return nil, nil
}

// pollFill looks at whether a lazy volume is filled by now. What it cannot see now is seen later.
func (p *Provider) pollFill(ctx context.Context, id string) {
	i, n, err := p.lazy(id)
	if err == nil && n >= 0 {
		_ = p.speak(ctx, i, func(q *qmp) error {
			p.lookAtFills(ctx, i, q)
			return nil
		})
	}
}

// lookAtFills records which lazy volumes of an instance have been filled. The caller holds the monitor.
func (p *Provider) lookAtFills(ctx context.Context, i *instance, q *qmp) {
	for n, d := range i.Instance.Disks {
		p.mu.Lock()
		v, err := p.known(d.Volume)
		lazy := err == nil && v.Volume.Lazy
		p.mu.Unlock()
		if !lazy {
			continue
		}
		job, err := findJob(ctx, q, jobName(n))
		if err != nil || job == nil || job.Status != "concluded" {
			continue
		}
		p.mu.Lock()
		if job.Error != "" {
			v.Volume.Reason = "fill: " + job.Error
		} else {
			view := v.View
			v.Volume.Lazy, v.Volume.Reason, v.View = false, "", nil
			if p.saveVolume(v) != nil {
				v.Volume.Lazy, v.View = true, view // seen again later
			}
		}
		p.mu.Unlock()
	}
}
