package launch

import (
	"context"
	"errors"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// Start begins a launch, or says why there can be none: a *wire.Problem with what to do. Nothing was made then. by is who asked for it.
func (s *Service) Start(ctx context.Context, project string, r wire.LaunchRequest, by string) (wire.LaunchInfo, error) {
	l, err := s.prepare(ctx, project, &r, by)
	if err != nil {
		return wire.LaunchInfo{}, tellTemporary(err)
	}
	if err := s.DB.Update(ctx, func(w store.Writer) error { return insert(w, l) }); err != nil {
		return wire.LaunchInfo{}, err
	}
	s.ring()
	return s.info(ctx, l), nil
}

// tellTemporary makes of an error of a provider's what a client can act on.
func tellTemporary(err error) error {
	var p *wire.Problem
	switch {
	case errors.As(err, &p):
		return err
	case errors.Is(err, providers.ErrTryAgain):
		return errors.Join(wire.NewProblem(503, wire.CodeUnavailable, "%v", err).WithNext("try again"), err)
	case errors.Is(err, providers.ErrDenied), errors.Is(err, providers.ErrQuota), errors.Is(err, providers.ErrConflict), errors.Is(err, providers.ErrInvalid),
		errors.Is(err, providers.ErrNotFound):
		return errors.Join(unfit("%v", err).WithNext("openmigrate providers check shows what is wrong with a provider"), err)
	}
	return err
}

// prepare decides everything about a launch that can be decided without making anything.
func (s *Service) prepare(ctx context.Context, project string, r *wire.LaunchRequest, by string) (*row, error) {
	if err := CheckRequest(r); err != nil {
		return nil, err
	}
	m, err := s.Catalog.Machine(ctx, r.Machine)
	if err != nil {
		return nil, err
	}
	if m.Project != project {
		return nil, wire.NewProblem(404, wire.CodeNotFound, "there is no machine %.64q", r.Machine).WithNext("openmigrate machines ls lists them")
	}
	now := s.Clock.Now()
	l := &row{ID: newID(), Kind: r.Kind, Project: m.Project, Machine: m.ID, MachineName: m.Name, By: clean(by, wire.MaxNameLength), Keep: r.Keep, Created: now}
	point, err := s.choosePoint(ctx, l, r, &m)
	if err != nil {
		return nil, err
	}
	if r.Kind == wire.LaunchCutover {
		if l.StopSource, l.HoldTimeout = r.StopSource, time.Duration(r.HoldTimeout); l.HoldTimeout == 0 {
			l.HoldTimeout = wire.DefaultHold
		}
	}
	template := r.Template
	if template == nil {
		own, err := s.template(ctx, m.ID)
		if err != nil {
			return nil, err
		}
		if p := checkTemplate(&own, r.Kind); p != nil {
			return nil, p
		}
		template = &own
	}
	q := planner{s: s, kind: r.Kind, machine: &m, point: point, template: *template}
	if l.Sync {
		if err := q.inspectSource(m.Replication(now)); err != nil {
			return nil, err
		}
	}
	if err := q.make(ctx, l.ID); err != nil {
		return nil, err
	}
	if len(q.template.Checks) == 0 {
		q.template.Checks = []wire.LaunchCheck{{Kind: wire.CheckBoot}}
	}
	l.Template, l.Plan, l.Provider = q.template, q.plan, q.template.Provider
	l.Warm = q.template.Warm && !q.template.Instant
	for _, c := range q.template.Checks {
		l.Checks = append(l.Checks, wire.LaunchOutcome{LaunchCheck: c})
	}
	if !l.Sync {
		l.setDisks(point)
	}
	if err := s.checkMemory(ctx, l); err != nil {
		return nil, err
	}
	l.Secret = newID() + newID()
	h, err := s.historyOf(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	l.Forecast = h.Took[l.pace()]
	l.say(now, "%s asked for by %s", l.Kind, l.By)
	if r.Kind == wire.LaunchCutover {
		h.warn(&q)
	}
	for _, w := range q.warnings {
		l.say(now, "warning: %s", w)
	}
	l.begin(wire.LaunchPending, now)
	return l, nil
}

// choosePoint finds the restpoint to bring up, or to plan by until there is one.
func (s *Service) choosePoint(ctx context.Context, l *row, r *wire.LaunchRequest, m *catalog.Machine) (*catalog.Restpoint, error) {
	ref := r.Restpoint
	if ref == "" {
		ref, l.Sync = m.ID+"/latest", r.Kind == wire.LaunchCutover
	}
	p, err := s.Catalog.Restpoint(ctx, ref)
	switch {
	case wire.HasCode(err, wire.CodeNotFound) && r.Restpoint == "":
		return nil, unfit("machine %s has no restpoint yet", m.Name).WithNext("openmigrate machines sync " + m.Name + " --wait")
	case err != nil:
		return nil, err
	case p.Machine != m.ID:
		return nil, unfit("restpoint %s is of another machine", p.ID).WithNext("openmigrate restpoints ls " + m.Name)
	case p.State == catalog.RestpointDamaged:
		return nil, unfit("restpoint %s is damaged", p.ID).WithNext("choose another: openmigrate restpoints ls " + m.Name + ", then --restpoint R")
	}
	if l.Sync {
		l.Base = p.ID
	} else {
		l.Restpoint = p.ID
	}
	return &p, nil
}

// setDisks makes the launch's disks those of a restpoint.
func (r *row) setDisks(p *catalog.Restpoint) {
	r.Disks = nil
	for _, d := range p.Disks {
		r.Disks = append(r.Disks, disk{ID: d.ID, Size: d.Size})
	}
}

// insert stores a launch that is new.
func insert(w store.Writer, l *row) error {
	n := 0
	var rival string
	err := scanActive(w, func(id string, a active) {
		n++
		if a.Kind == wire.LaunchCutover && a.Machine == l.Machine && l.Kind == wire.LaunchCutover {
			rival = id
		}
	})
	switch {
	case err != nil:
		return err
	case rival != "":
		other, err := getRow(w, rival)
		if err != nil {
			return err
		}
		p := wire.NewProblem(409, wire.CodeBusy, "machine %s is being cut over by launch %s, which is %s", l.MachineName, rival, other.State)
		if other.State == wire.LaunchRunning {
			return p.WithNext("openmigrate launch revert " + rival + ", or finalize it")
		}
		return p.WithNext("wait for it, or: openmigrate launch revert " + rival)
	case n >= maxActive:
		return wire.NewProblem(429, wire.CodeFull, "%d launches are under way", n).WithNext("revert some: openmigrate launch ls lists them")
	}
	if l.Number, err = nextNumber(w); err != nil {
		return err
	}
	if err := w.Put(tableOrder, u64(l.Number), []byte(l.ID)); err != nil {
		return err
	}
	if err := remember(w, l); err != nil {
		return err
	}
	return putRow(w, l)
}

// letGo ends the launch's claim to its restpoints.
func (s *Service) letGo(ctx context.Context, l *row) error {
	for _, point := range []string{l.Base, l.Restpoint} {
		if point == "" {
			continue
		}
		if err := s.Catalog.LetGoRestpoint(ctx, point, l.ID); err != nil {
			return err
		}
	}
	return nil
}
