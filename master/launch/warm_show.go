package launch

import (
	"context"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// warmTrouble is why a machine's standing volumes do not get on. It is kept in memory: the next look finds out again.
type warmTrouble struct {
	why   string
	until time.Time // others come first
}

// noteWarm remembers how the last look at a machine's standing volumes went.
func (s *Service) noteWarm(m *catalog.Machine, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.warmTrouble, m.ID)
		return
	}
	why := clean(err.Error(), maxLine)
	if s.warmTrouble[m.ID].why != why {
		s.Log.Warn("standing volumes do not get on; it is tried again", "machine", m.Name, "error", err)
	}
	s.warmTrouble[m.ID] = warmTrouble{why, s.Clock.Now().Add(warmPause)}
}

// rests reports whether a machine's standing volumes were in trouble a moment ago.
func (s *Service) rests(machine string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.warmTrouble[machine].until.After(s.Clock.Now())
}

// instantOf is when a restpoint is of, as the master knows it.
func instantOf(p *catalog.Restpoint) time.Time {
	if p.Instant.IsZero() {
		return p.Created
	}
	return p.Instant
}

// show says how standing volumes are. have: the machine has some.
func (v *warm) show(m *catalog.Machine, now time.Time) (info *wire.WarmInfo, have bool) {
	if v.Provider == "" {
		return nil, false
	}
	info = &wire.WarmInfo{Provider: v.Provider, Restpoint: v.Held, Applying: v.Target, Launch: v.User, Since: v.Since}
	if !v.Instant.IsZero() {
		info.Instant = &v.Instant
	}
	for _, d := range v.Disks {
		if d.Volume != "" {
			info.Volumes++
			info.Size += max(d.Size, v.MinVolume)
		}
	}
	switch {
	case v.Releasing:
		info.State = wire.WarmReleasing
	case v.User != "":
		info.State = wire.WarmInUse
	case v.Rest.After(now):
		info.State = wire.WarmResting
	case v.Target != "" && v.Held != "":
		info.State = wire.WarmApplying
	case v.Held == "":
		info.State = wire.WarmMaking
	case v.Restpoint == m.LastRestpoint:
		info.State = wire.WarmCurrent
	default:
		info.State = wire.WarmBehind
	}
	return info, true
}

// follow adds to what is shown of standing volumes how far they are, and why they do not get on.
func (s *Service) follow(ctx context.Context, v *warm, info *wire.WarmInfo) {
	s.mu.Lock()
	info.Problem = s.warmTrouble[v.Machine].why
	s.mu.Unlock()
	if v.Target == "" || v.User != "" {
		return
	}
	var total wire.Progress
	for n, d := range v.Disks {
		if j, err := s.Catalog.Job(ctx, v.job(n)); err == nil {
			addProgress(&total, j.Progress, d.Size, j.State == catalog.JobDone)
		} else {
			total.Total += d.Size
		}
	}
	total.Phase = "copying"
	info.Progress = &total
}
