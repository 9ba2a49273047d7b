package launch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// warm is a machine's standing volumes: each newly listed restpoint is written to them in the background, so that a launch has only the last
// difference to write before it clones them.
//
//	          newer restpoint                 all disks written
//	idle ───────────────────────► applying ─────────────────────► idle        one machine at a time
//	 ▲ │ a launch takes them                                        │
//	 │ ▼                                                            │ no longer wanted, and no launch has them
//	in use (User) ── cloned, or given up ──► idle                   ▼
//	                                                            releasing ─► (row deleted)
//
// A journal of the node's says what a volume holds, so nothing here has to be believed: a job that finds it up to date writes nothing.
type warm struct {
	Machine    string            `json:"machine"`
	Name       string            `json:"name"`
	Provider   string            `json:"provider"`
	Zone       string            `json:"zone,omitempty"`
	Settings   map[string]string `json:"settings,omitempty"`
	MinVolume  int64             `json:"min_volume,omitempty"`
	Disks      []warmDisk        `json:"disks,omitempty"`
	Generation int               `json:"generation"`          // counts volumes, for their tokens
	Attempt    int               `json:"attempt"`             // counts tries, for ids of jobs
	Restpoint  string            `json:"restpoint,omitempty"` // that all volumes hold; empty: not known
	Held       string            `json:"held,omitempty"`      // for people: the last that all volumes held
	Instant    time.Time         `json:"instant,omitzero"`    // that Held is of
	Target     string            `json:"target,omitempty"`    // that is being applied
	User       string            `json:"user,omitempty"`      // launch that has them
	Rest       time.Time         `json:"rest,omitzero"`       // until when a job that was cancelled may still write
	Releasing  bool              `json:"releasing,omitempty"`
	Since      time.Time         `json:"since,omitzero"` // when the first volume was asked for
}

// warmDisk is the standing volume of one disk.
type warmDisk struct {
	ID         string `json:"id"`
	Size       int64  `json:"size"`
	Generation int    `json:"generation"`
	Filled     int64  `json:"filled,omitempty"` // bytes that its volume is expected to hold; 0: not measured yet
	Volume     string `json:"volume,omitempty"`
	Old        bool   `json:"old,omitempty"` // the machine has no such disk any more
}

const (
	warmOwner = "warm-"
	// cancelledWrites is how long a node may write after its job was cancelled: it hears of it when it renews its lease, or loses that.
	cancelledWrites = 90 * time.Second
	warmPause       = 30 * time.Second // between two looks when nothing is to be done, and after an error
)

func warmMachine(owner string) (string, bool) { return strings.CutPrefix(owner, warmOwner) }

// warmStays reports whether standing volumes belong to anybody. They can be made again at any time, so those that nothing is known of may go.
func warmStays(r store.Reader, machine string) (bool, error) {
	_, err := r.Get(tableWarm, []byte(machine))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// keepWarm keeps all standing volumes.
func (s *Service) keepWarm(ctx context.Context) {
	last := ""
	for {
		news, ended := s.nextNews(), s.Catalog.JobsEnded()
		busy, err := s.warmOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := warmPause
		if err != nil && err.Error() != last {
			s.Log.Warn("standing volumes could not be kept; it is tried again", "error", err)
		}
		if last = ""; err != nil {
			last = err.Error()
		}
		if busy {
			pause = s.Pause
		} else if err == nil {
			ended = nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ended:
		case <-news:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// wanted reports whether volumes of any machine are to be kept.
func wanted(templates map[string]wire.LaunchTemplate) bool {
	for _, t := range templates {
		if t.Warm {
			return true
		}
	}
	return false
}

// warmOnce looks at every machine once. busy: something is under way. A machine whose volumes cannot be kept does not keep others waiting: it is noted,
// and no error.
func (s *Service) warmOnce(ctx context.Context) (busy bool, err error) {
	rows, templates := map[string]warm{}, map[string]wire.LaunchTemplate{}
	err = s.DB.View(ctx, func(r store.Reader) error {
		clear(rows)
		clear(templates)
		err := scan(r, tableWarm, func(k string, v warm) { rows[k] = v })
		return errors.Join(err, scan(r, tableTemplates, func(k string, v wire.LaunchTemplate) { templates[k] = v }))
	})
	if err != nil {
		return false, err
	}
	if len(rows) == 0 && !wanted(templates) {
		return false, nil // most masters keep none: all machines need not be read for it
	}
	machines, err := s.Catalog.Machines(ctx, s.Project)
	if err != nil {
		return false, err
	}
	var errs []error
	var next *catalog.Machine // that is brought up to date
	applying := false
	for i := range machines {
		m := &machines[i]
		v, have := rows[m.ID]
		delete(rows, m.ID)
		t := templates[m.ID]
		switch {
		case have && (v.Releasing || !t.Warm || t.Provider != "" && t.Provider != v.Provider):
			err := s.releaseWarm(ctx, &v)
			busy, errs = busy || err == nil, append(errs, err)
		case !t.Warm || v.User != "" || m.LastRestpoint == "" || v.Restpoint == m.LastRestpoint && v.Target == "":
		case s.rests(m.ID), v.Rest.After(s.Clock.Now()):
		case v.Target != "" && !applying:
			applying, next = true, m // what was begun goes on first
		case next == nil:
			next = m
		}
	}
	for _, v := range rows { // of machines that are gone
		err := s.releaseWarm(ctx, &v)
		busy, errs = busy || err == nil, append(errs, err)
	}
	if next != nil {
		busy = true
		err := s.applyWarm(ctx, next, templates[next.ID])
		if ctx.Err() == nil {
			s.noteWarm(next, err)
		}
	}
	return busy, errors.Join(errs...)
}

func scan[T any](r store.Reader, table string, fn func(key string, v T)) error {
	return r.Scan(table, nil, nil, func(k, _ []byte) error {
		v, err := get[T](r, table, string(k))
		if err == nil {
			fn(string(k), v)
		}
		return err
	})
}

// changeWarm reads, changes and writes a machine's row in one transaction. A row that is new is made.
func (s *Service) changeWarm(ctx context.Context, machine string, fn func(*warm) error) (warm, error) {
	var v warm
	err := s.DB.Update(ctx, func(w store.Writer) (err error) {
		if v, err = find[warm](w, tableWarm, machine); err != nil {
			return err
		}
		v.Machine = machine
		if err := fn(&v); err != nil {
			return err
		}
		return put(w, tableWarm, machine, v)
	})
	return v, err
}

var errTaken = errors.New("a launch has the standing volumes")

// applyWarm does the next thing that brings a machine's standing volumes to its newest restpoint.
func (s *Service) applyWarm(ctx context.Context, m *catalog.Machine, t wire.LaunchTemplate) error {
	v, point, err := s.beginWarm(ctx, m, t)
	if err != nil || point == nil {
		return err
	}
	p, err := s.provider(v.Provider)
	if err != nil {
		return err
	}
	if v.Rest.After(s.Clock.Now()) {
		return nil
	}
	done := 0
	for n := range v.Disks {
		if v.Disks[n].Old {
			if err := s.dropWarm(ctx, p, &v, n); err != nil {
				return err
			}
			return nil // the list has changed
		}
		ok, err := s.applyDisk(ctx, p, &v, n, point)
		if err != nil {
			return fmt.Errorf("disk %d: %w", n, err)
		}
		if ok {
			done++
		}
	}
	if done < len(v.Disks) {
		return nil
	}
	for _, d := range v.Disks {
		if err := p.DetachVolume(ctx, d.Volume); err != nil {
			return err
		}
	}
	_, err = s.changeWarm(ctx, m.ID, func(v *warm) error {
		if v.User != "" {
			return errTaken
		}
		v.Restpoint, v.Target = v.Target, ""
		v.Held, v.Instant = v.Restpoint, instantOf(point)
		return nil
	})
	return notTaken(err)
}

func notTaken(err error) error {
	if errors.Is(err, errTaken) {
		return nil
	}
	return err
}

// beginWarm writes down which restpoint is applied to which volumes. point is nil when there is nothing to do now.
func (s *Service) beginWarm(ctx context.Context, m *catalog.Machine, t wire.LaunchTemplate) (warm, *catalog.Restpoint, error) {
	old, err := s.warmOf(ctx, m.ID)
	if err != nil {
		return old, nil, err
	}
	target := old.Target
	if target == "" {
		target = m.LastRestpoint
	}
	point, err := s.Catalog.Restpoint(ctx, target)
	if wire.HasCode(err, wire.CodeNotFound) && old.Target != "" {
		_, err = s.changeWarm(ctx, m.ID, func(v *warm) error { v.Target = ""; return nil })
		return old, nil, err
	}
	if err != nil || old.Target != "" {
		return old, &point, err
	}
	q := planner{s: s, kind: wire.LaunchTest, machine: m, point: &point, template: t}
	if err := q.make(ctx, m.ID); err != nil {
		return old, nil, err
	}
	v, err := s.changeWarm(ctx, m.ID, func(v *warm) error {
		if v.User != "" {
			return errTaken
		}
		v.Name, v.Provider, v.Zone, v.Settings, v.MinVolume = m.Name, q.template.Provider, q.plan.Zone, q.plan.VolumeSettings, q.plan.MinVolume
		v.Target = point.ID
		if v.Since.IsZero() {
			v.Since = s.Clock.Now()
		}
		v.Attempt++
		v.match(&point)
		return nil
	})
	if err != nil {
		return v, nil, notTaken(err)
	}
	return v, &point, nil
}

func (s *Service) warmOf(ctx context.Context, machine string) (warm, error) {
	var v warm
	err := s.DB.View(ctx, func(r store.Reader) (err error) {
		v, err = find[warm](r, tableWarm, machine)
		return err
	})
	return v, err
}

// match makes the list of volumes fit the disks of a restpoint. One whose size changed is made anew.
func (v *warm) match(p *catalog.Restpoint) {
	for n := range v.Disks {
		v.Disks[n].Old = true
	}
	for _, d := range p.Disks {
		if at := v.find(d.ID, d.Size); at >= 0 {
			v.Disks[at].Old = false
			continue
		}
		v.Generation++
		v.Disks = append(v.Disks, warmDisk{ID: d.ID, Size: d.Size, Generation: v.Generation})
	}
}

func (v *warm) find(id string, size int64) int {
	for n, d := range v.Disks {
		if d.ID == id && d.Size == size {
			return n
		}
	}
	return -1
}

func (v *warm) meta(system string, n int) providers.Meta {
	sum := sha256.Sum256([]byte(system + " " + v.Machine)) // whoever named the machine, its tokens are short
	return providers.Meta{Token: fmt.Sprintf("warm-%x-%d", sum[:12], v.Disks[n].Generation),
		Owner: providers.Owner{System: system, Launch: warmOwner + v.Machine}, Name: fmt.Sprintf("openmigrate warm copy of %s, disk %d", v.Name, n)}
}

// job is the id of the job that writes the target to a disk.
func (v *warm) job(n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d %d", v.Machine, v.Target, v.Disks[n].Generation, v.Attempt))
	return fmt.Sprintf("warm-%x", sum[:16])
}

// measureJob is the id of the job that measures the target.
func (v *warm) measureJob() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d measure", v.Machine, v.Target, v.Attempt))
	return fmt.Sprintf("warm-%x", sum[:16])
}

// applyDisk writes the target to one disk's volume, and reports whether that is done.
func (s *Service) applyDisk(ctx context.Context, p providers.Provider, v *warm, n int, point *catalog.Restpoint) (bool, error) {
	d := &v.Disks[n]
	if d.Volume == "" && d.Filled == 0 {
		return false, s.measureWarm(ctx, v, point)
	}
	if d.Volume == "" {
		size := max(d.Size, v.MinVolume)
		made, err := p.CreateVolume(ctx, providers.VolumeSpec{Meta: v.meta(s.System, n), Size: size, Filled: min(d.Filled, size), Zone: v.Zone, Settings: v.Settings})
		if err != nil {
			return false, err
		}
		d.Volume = made.ID
		if _, err := s.changeWarm(ctx, v.Machine, func(v *warm) error { v.Disks[n].Volume = made.ID; return nil }); err != nil {
			return false, err
		}
	}
	vol, ok, err := s.attachTo(ctx, p, v.Provider, d.Volume)
	if errors.Is(err, providers.ErrNotFound) {
		// Somebody removed it at the provider.
		_, err := s.changeWarm(ctx, v.Machine, func(v *warm) error {
			v.Generation++
			v.Disks[n].Volume, v.Disks[n].Generation = "", v.Generation
			return nil
		})
		return false, err
	}
	if err != nil || !ok {
		return false, err
	}
	number := diskNumber(point, d.ID)
	j, err := s.Catalog.CreateJob(ctx, catalog.JobSpec{ID: v.job(n), Kind: wire.JobHydrate, Restpoint: v.Target, Disk: &number, Volumes: []wire.Volume{vol},
		Provider: v.Provider, Background: true})
	if err != nil {
		return false, err
	}
	switch j.State {
	case catalog.JobDone:
		return true, nil
	case catalog.JobFailed, catalog.JobCancelled:
		// With the next look it begins again, perhaps with a newer restpoint.
		_, err := s.changeWarm(ctx, v.Machine, func(v *warm) error {
			v.Target, v.Rest = "", s.Clock.Now().Add(cancelledWrites)
			return nil
		})
		return false, errors.Join(err, fmt.Errorf("write restpoint %s: %w", v.Target, failedJob(&j, "copy the data")))
	}
	return false, nil
}

// measureWarm finds out how much the volumes that are to be made will hold. What cannot be measured counts as full.
func (s *Service) measureWarm(ctx context.Context, v *warm, point *catalog.Restpoint) error {
	j, err := s.Catalog.CreateJob(ctx, catalog.JobSpec{ID: v.measureJob(), Kind: wire.JobMeasure, Restpoint: v.Target, Background: true})
	if err != nil || j.State == catalog.JobQueued || j.State == catalog.JobLeased {
		return err
	}
	data := dataOf(point, j.Result)
	_, err = s.changeWarm(ctx, v.Machine, func(v *warm) error {
		for n := range v.Disks {
			d := &v.Disks[n]
			if d.Volume != "" || d.Filled != 0 {
				continue
			}
			if d.Filled = max(1, d.Size); j.State == catalog.JobDone {
				if held, known := data[d.ID]; known {
					d.Filled = expected(held, d.Size)
				}
			}
		}
		return nil
	})
	return err
}

func diskNumber(p *catalog.Restpoint, id string) int {
	for n, d := range p.Disks {
		if d.ID == id {
			return n
		}
	}
	return -1
}

// dropWarm removes one volume that is not needed any more.
func (s *Service) dropWarm(ctx context.Context, p providers.Provider, v *warm, n int) error {
	if id := v.Disks[n].Volume; id != "" {
		if err := p.DetachVolume(ctx, id); err != nil {
			return err
		}
		if err := p.DeleteVolume(ctx, id); err != nil {
			return err
		}
	}
	_, err := s.changeWarm(ctx, v.Machine, func(v *warm) error {
		v.Disks = append(v.Disks[:n:n], v.Disks[n+1:]...)
		return nil
	})
	return err
}

// releaseWarm removes standing volumes that nobody wants any more, once no launch has them.
func (s *Service) releaseWarm(ctx context.Context, v *warm) error {
	if v.User != "" {
		return nil
	}
	p, err := s.provider(v.Provider)
	if err != nil {
		return err
	}
	now, err := s.changeWarm(ctx, v.Machine, func(v *warm) error {
		if v.User != "" {
			return errTaken
		}
		v.Releasing = true
		return nil
	})
	if err != nil {
		return notTaken(err)
	}
	if err := s.cancelWarm(ctx, &now); err != nil {
		return err
	}
	seen := &listed{Provider: p}
	report, err := providers.Sweep(ctx, seen, s.System, func(context.Context) (map[string]bool, error) {
		others := map[string]bool{}
		for _, x := range seen.all {
			others[x.Owner.Launch] = x.Owner.Launch != warmOwner+v.Machine
		}
		return others, nil
	})
	if err = errors.Join(err, report.Err); err != nil || len(report.Removed)+len(report.Left) > 0 {
		return err
	}
	return s.DB.Update(ctx, func(w store.Writer) error { return w.Delete(tableWarm, []byte(v.Machine)) })
}

// cancelWarm ends the jobs that write the target.
func (s *Service) cancelWarm(ctx context.Context, v *warm) error {
	if v.Target == "" {
		return nil
	}
	ids := []string{v.measureJob()}
	for n := range v.Disks {
		ids = append(ids, v.job(n))
	}
	for _, id := range ids {
		err := s.Catalog.CancelJob(ctx, id)
		if err != nil && !wire.HasCode(err, wire.CodeNotFound) && !wire.HasCode(err, wire.CodeConflict) {
			return err
		}
	}
	return nil
}
