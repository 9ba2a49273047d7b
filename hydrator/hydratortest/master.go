package hydratortest

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Resolve answers with the first copy that is not in quarantine, of the least depth.
func (w *World) Resolve(_ context.Context, _ string, ids []chunker.ID) ([]wire.Location, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(ids) > wire.MaxOffer {
		return nil, wire.NewProblem(413, wire.CodeTooLarge, "%d ids", len(ids))
	}
	out := make([]wire.Location, len(ids))
	for i, id := range ids {
		for _, l := range w.locations[id] {
			if !w.gone[l.Pack] && (!out[i].Found || l.Entry.Depth < out[i].Entry.Depth) {
				out[i] = l
			}
		}
		if w.edit != nil && out[i].Found {
			w.edit(&out[i])
		}
	}
	return out, nil
}

// URLs signs for as long as SetURLsValid says.
func (w *World) URLs(ctx context.Context, _ string, r *wire.URLRequest) (*wire.URLResponse, error) {
	w.mu.Lock()
	valid := w.valid
	w.mu.Unlock()
	resp := &wire.URLResponse{Valid: wire.Duration(valid)}
	for _, p := range r.Packs {
		id, err := format.ParsePackID(p)
		if err != nil {
			return nil, err
		}
		s, err := w.Store.SignGet(ctx, id.Name(), valid)
		if err != nil {
			return nil, err
		}
		resp.URLs = append(resp.URLs, s.URL)
	}
	return resp, nil
}

// Quarantine makes Resolve forget what is damaged.
func (w *World) Quarantine(_ context.Context, _ string, damage []wire.Damage) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.damage = append(w.damage, damage...)
	for _, d := range damage {
		pack, err := format.ParsePackID(d.Pack)
		if err != nil {
			return err
		}
		if d.ID == "" {
			w.gone[pack] = true
			continue
		}
		id, err := chunker.ParseID(d.ID)
		if err != nil {
			return err
		}
		w.locations[id] = slices.DeleteFunc(w.locations[id], func(l wire.Location) bool { return l.Pack == pack })
	}
	return nil
}

// RenewJob keeps the lease until Cancel.
func (w *World) RenewJob(_ context.Context, job string, p *wire.Progress) (*wire.JobLease, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress = append(w.progress, *p)
	return &wire.JobLease{TTL: wire.Duration(time.Minute), Cancelled: w.cancelled[job]}, nil
}

// ReportJob notes the report.
func (w *World) ReportJob(_ context.Context, _ string, report json.RawMessage) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, report)
	return nil
}

// CompleteJob notes the result.
func (w *World) CompleteJob(_ context.Context, _ string, r *wire.JobResult) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.completed = append(w.completed, *r)
	return nil
}

// FailJob notes the failure.
func (w *World) FailJob(_ context.Context, _ string, f *wire.Failure) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = append(w.failed, *f)
	return nil
}

// Hello accepts every node.
func (w *World) Hello(context.Context, string, *wire.Hello) (*wire.HelloResponse, error) {
	return &wire.HelloResponse{Now: time.Now()}, nil
}

// LeaseJob hands out what Queue was given, and waits as long as it is asked to.
func (w *World) LeaseJob(ctx context.Context, r *wire.LeaseRequest) (*wire.Job, error) {
	wait := time.NewTimer(time.Duration(r.Wait))
	defer wait.Stop()
	for {
		w.mu.Lock()
		// Kinds that nobody has are for those who ask for more than serve jobs.
		only := slices.Equal(r.Kinds, []string{wire.JobServe})
		at := slices.IndexFunc(w.queue, func(j *wire.Job) bool { return slices.Contains(r.Kinds, j.Kind) || !only && j.Kind != wire.JobServe })
		if at >= 0 {
			j := w.queue[at]
			w.queue = slices.Delete(w.queue, at, at+1)
			w.mu.Unlock()
			return j, nil
		}
		queued := w.queued
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wait.C:
			return nil, nil
		case <-queued:
		}
	}
}

// Queue gives a job to the next LeaseJob.
func (w *World) Queue(j *wire.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, j)
	close(w.queued)
	w.queued = make(chan struct{})
}

// Cancel makes the next renewal of a job say that it is cancelled.
func (w *World) Cancel(job string) { w.mu.Lock(); defer w.mu.Unlock(); w.cancelled[job] = true }

// SetURLsValid says how long URLs live.
func (w *World) SetURLsValid(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.valid = d }

// EditLocations makes the master lie.
func (w *World) EditLocations(fn func(*wire.Location)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.edit = fn
}

// Forget makes the index lose ids.
func (w *World) Forget(ids ...chunker.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		delete(w.locations, id)
	}
}

// Where is all places that store id.
func (w *World) Where(id chunker.ID) []wire.Location {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.locations[id])
}

// Damage is what was reported.
func (w *World) Damage() []wire.Damage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.damage)
}

// Progress is what the renewals said.
func (w *World) Progress() []wire.Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.progress)
}

// Reports are what jobs said that went on.
func (w *World) Reports() []json.RawMessage {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.reports)
}

// Ended is how the jobs ended.
func (w *World) Ended() (completed []wire.JobResult, failed []wire.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.completed), slices.Clone(w.failed)
}
