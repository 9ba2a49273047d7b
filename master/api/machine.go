package api

import (
	"net/http"
	"time"

	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/launch"
	"github.com/openmigrate/openmigrate/wire"
)

// machine reads the machine of the path; one of another project is as good as absent.
func (s *server) machine(c *call) (catalog.Machine, error) {
	return s.machineNamed(c, c.r.PathValue("machine"))
}

// machineNamed is as machine for an id or name that came otherwise.
func (s *server) machineNamed(c *call, ref string) (catalog.Machine, error) {
	m, err := s.Catalog.Machine(c.ctx, ref)
	if err == nil && m.Project != c.tok.Project {
		return m, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no machine %.100q", ref)
	}
	return m, err
}

func (s *server) listMachines(c *call) error {
	list, err := s.Catalog.Machines(c.ctx, c.tok.Project)
	if err != nil {
		return err
	}
	life, err := s.Launches.Life(c.ctx, list)
	if err != nil {
		return err
	}
	out := make([]wire.MachineInfo, 0, len(list))
	for i := range list {
		info := s.machineInfo(&list[i], life)
		info.Inventory, info.Events, info.Report.Disks = nil, nil, nil
		out = append(out, info)
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) showMachine(c *call) error {
	m, err := s.machine(c)
	if err != nil {
		return err
	}
	return s.answerMachine(c, &m)
}

func (s *server) answerMachine(c *call, m *catalog.Machine) error {
	life, err := s.Launches.Life(c.ctx, []catalog.Machine{*m})
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, s.machineInfo(m, life))
}

func (s *server) machineInfo(m *catalog.Machine, life map[string]launch.Life) wire.MachineInfo {
	standing := s.Catalog.Standing(m)
	interval := wire.Duration(m.Interval)
	info := wire.MachineInfo{
		ID: m.ID, Name: m.Name, Replication: standing.State, Reason: standing.Reason, NextStep: standing.NextStep,
		Life: life[m.ID].State, LifeStep: life[m.ID].NextStep,
		RPO: rpoInfo(m, &standing), Created: m.Created, LastSeen: m.LastSeen,
		LastRestpoint: m.LastRestpoint, Restpoints: m.Sequence, Paused: m.Paused, Frozen: m.Frozen, Revoked: m.Revoked,
		AgentVersion: m.AgentVersion, Session: m.Session, Progress: m.Progress, Report: &m.Report, Events: m.Events, Inventory: m.Inventory,
		Policy: wire.MachinePolicy{Interval: &interval, Disks: m.Policy.Disks, ChunkSize: &m.Policy.ChunkSize,
			Bandwidth: &m.Policy.Bandwidth, Window: m.Policy.Window, Consistency: &m.Policy.Consistency},
	}
	if !m.LastTime.IsZero() {
		info.LastTime = &m.LastTime
	}
	return info
}

func rpoInfo(m *catalog.Machine, s *catalog.Standing) wire.RPOInfo {
	duration := func(d time.Duration) wire.Duration { return wire.Duration(d.Round(time.Millisecond)) }
	info := wire.RPOInfo{Now: duration(s.RPO), Predicted: duration(s.Predicted), Target: duration(s.Target), Lag: duration(s.Lag),
		Backlog: s.Backlog, ChangeRate: s.Change, Throughput: s.Throughput}
	if m.LastRestpoint != "" {
		info.Instant = &m.LastInstant
	}
	if !s.ETA.IsZero() {
		info.ETA = &s.ETA
	}
	return info
}

func (s *server) changeMachine(c *call) error {
	m, err := s.machine(c)
	if err != nil {
		return err
	}
	var p wire.MachinePolicy
	if err := c.decode(&p); err != nil {
		return err
	}
	if err := checkPolicy(&p); err != nil {
		return err
	}
	m, err = s.Catalog.UpdateMachine(c.ctx, m.ID, func(m *catalog.Machine) error {
		if p.Interval != nil {
			m.Policy.Interval = time.Duration(*p.Interval)
		}
		if p.Disks != nil {
			m.Policy.Disks = p.Disks
		}
		if p.ChunkSize != nil {
			m.Policy.ChunkSize = *p.ChunkSize
		}
		if p.Bandwidth != nil {
			m.Policy.Bandwidth = *p.Bandwidth
		}
		if p.Window != nil {
			m.Policy.Window = p.Window
			if p.Window.From == p.Window.To {
				m.Policy.Window = nil
			}
		}
		if p.Consistency != nil {
			m.Policy.Consistency = *p.Consistency
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.audit(c, "changed policy", m.Name)
	return s.answerMachine(c, &m)
}

// audit notes who changed what.
func (s *server) audit(c *call, what, which string) {
	s.Log.Info("operator "+what, "who", c.name(), "what", which, "from", c.r.RemoteAddr)
}

// change runs fn on the machine of the path and answers with nothing.
func (s *server) change(c *call, what string, fn func(id string) error) error {
	m, err := s.machine(c)
	if err != nil {
		return err
	}
	if err := fn(m.ID); err != nil {
		return err
	}
	s.audit(c, what, m.Name)
	return c.done()
}

func (s *server) removeMachine(c *call) error {
	return s.change(c, "removed machine", func(id string) error {
		if err := s.Catalog.RemoveMachine(c.ctx, id); err != nil {
			return err
		}
		if err := s.Identity.Revoke(c.ctx, ca.KindAgent, id, "the machine was removed"); err != nil {
			return err
		}
		return s.Staging.RetireMachine(c.ctx, id)
	})
}

func (s *server) pause(c *call) error {
	return s.change(c, "paused", func(id string) error { return s.Catalog.SetPaused(c.ctx, id, true) })
}

func (s *server) resume(c *call) error {
	return s.change(c, "resumed", func(id string) error { return s.Catalog.SetPaused(c.ctx, id, false) })
}

func (s *server) revoke(c *call) error {
	return s.change(c, "revoked", func(id string) error {
		// First shut out: the catalog wakes the agent's long poll, which must not answer any more.
		if err := s.Identity.Revoke(c.ctx, ca.KindAgent, id, "an operator revoked it"); err != nil {
			return err
		}
		if err := s.Catalog.Revoke(c.ctx, id); err != nil {
			return err
		}
		return s.Staging.PublishMachine(c.ctx, id)
	})
}

func (s *server) unfreeze(c *call) error {
	return s.change(c, "unfroze", func(id string) error { return s.Catalog.Unfreeze(c.ctx, id) })
}

func (s *server) sync(c *call) error {
	m, err := s.machine(c)
	if err != nil {
		return err
	}
	id, err := s.Catalog.RequestSync(c.ctx, m.ID)
	if err != nil {
		return err
	}
	return c.answer(http.StatusAccepted, wire.SyncInfo{ID: id, Open: true})
}

func (s *server) showSync(c *call) error {
	m, err := s.machine(c)
	if err != nil {
		return err
	}
	out := wire.SyncInfo{ID: c.r.PathValue("sync"), State: m.Report.State, Message: m.Report.Message, Progress: m.Progress}
	out.Open = m.Sync == out.ID
	for _, d := range m.Syncs {
		if d.ID == out.ID {
			out.Restpoint = d.Restpoint
		}
	}
	return c.answer(http.StatusOK, out)
}
