package launch

import (
	"context"
	"errors"
	"slices"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Get returns a launch with its log, report and progress.
func (s *Service) Get(ctx context.Context, id string) (wire.LaunchInfo, error) {
	l, err := s.row(ctx, id)
	if err != nil {
		return wire.LaunchInfo{}, err
	}
	info := s.info(ctx, &l)
	report, err := s.blob(ctx, tableReports, id, "report")
	if err != nil && !wire.HasCode(err, wire.CodeNotFound) {
		return wire.LaunchInfo{}, err
	}
	if len(report) > 0 {
		info.Conversion = report
	}
	return info, nil
}

// List returns the launches of a machine (id or name; all machines when empty), newest first, without their logs.
func (s *Service) List(ctx context.Context, machine string) ([]wire.LaunchInfo, error) {
	if machine != "" {
		m, err := s.Catalog.Machine(ctx, machine)
		if err != nil {
			return nil, err
		}
		machine = m.ID
	}
	var rows []row
	err := s.DB.View(ctx, func(r store.Reader) error {
		rows = nil
		return r.Scan(tableOrder, nil, nil, func(_, id []byte) error {
			l, err := get[row](r, tableLaunches, string(id))
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err == nil && (machine == "" || l.Machine == machine) {
				rows = append(rows, l)
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(rows)
	list := make([]wire.LaunchInfo, 0, len(rows))
	for i := range rows {
		info := s.info(ctx, &rows[i])
		info.Log = nil
		list = append(list, info)
	}
	return list, nil
}

// info is a row as people see it.
func (s *Service) info(_ context.Context, l *row) wire.LaunchInfo {
	info := wire.LaunchInfo{
		ID: l.ID, Kind: l.Kind, Machine: l.Machine, MachineName: l.MachineName, Restpoint: l.Restpoint, Provider: l.Provider, Template: l.Template,
		State: l.State, NextStep: l.nextStep(), Created: l.Created, Ended: l.Ended, Deadline: l.Deadline,
		Steps: slices.Clone(l.Steps), Log: l.Log, Checks: l.Checks, Instance: l.Instance, Endpoints: l.Endpoints,
		Failure: l.Failure, Source: l.Source, Forecast: wire.Duration(l.Forecast), Took: wire.Duration(l.Took), Screenshot: l.Screen, Project: l.Project,
	}
	for _, d := range l.Disks {
		if d.Volume != "" {
			info.Volumes = append(info.Volumes, d.Volume)
			info.Size += d.Size
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.shown[l.ID]; ok && !l.over() && len(info.Steps) > 0 {
		info.Steps[len(info.Steps)-1].Progress = &p
	}
	return info
}

// nextStep says what somebody can do now.
func (r *row) nextStep() string {
	revert, show := "openmigrate launch revert "+r.ID, "openmigrate launch show "+r.ID
	switch r.State {
	case wire.LaunchRunning:
		switch {
		case r.Kind == wire.LaunchCutover && r.Source == wire.HoldLost:
			return "shut the source down, it runs beside its copy; then: openmigrate launch finalize " + r.ID + "; or go back: " + revert
		case r.Kind == wire.LaunchCutover:
			return "look whether it serves, then: openmigrate launch finalize " + r.ID + "; or go back: " + revert
		}
		return "look at it, then: " + revert
	case wire.LaunchFailed:
		if r.Kept {
			return "look at what is left, then: " + revert
		}
		return "mend what it names, then launch again; its console: openmigrate launch console " + r.ID
	case wire.LaunchReverted:
		if r.StopSource && !r.Ran.IsZero() {
			return "if the source was powered off, start it"
		}
		return "none"
	case wire.LaunchFinalized:
		return "none"
	}
	return "wait; follow it with: " + show + "; or give up: " + revert
}

// pace is what launches are compared by, to forecast how long one takes.
func (r *row) pace() string {
	switch {
	case r.Template.Instant:
		return r.Kind + "-instant"
	case r.Template.Warm:
		return r.Kind + "-warm"
	}
	return r.Kind
}

// retire forgets the oldest launches that are over. Those whose machines stay are remembered for ever, or a sweep could take them for orphans.
func (s *Service) retire(ctx context.Context) error {
	return s.DB.Update(ctx, func(w store.Writer) error {
		var old [][2][]byte
		n := 0
		err := w.Scan(tableOrder, nil, nil, func(k, id []byte) error {
			n++
			old = append(old, [2][]byte{slices.Clone(k), slices.Clone(id)})
			return nil
		})
		if err != nil {
			return err
		}
		for _, o := range old {
			if n <= keepRows {
				break
			}
			l, err := get[row](w, tableLaunches, string(o[1]))
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err == nil && l.owns() {
				continue
			}
			n--
			for _, table := range []string{tableLaunches, tableConsoles, tableScreens, tableReports} {
				if err := w.Delete(table, o[1]); err != nil {
					return err
				}
			}
			if err := w.Delete(tableOrder, o[0]); err != nil {
				return err
			}
		}
		return nil
	})
}
