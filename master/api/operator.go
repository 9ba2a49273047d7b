package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/wire"
)

// operatorRoutes is what people's tools may call, and with which role.
func operatorRoutes() []route {
	const small = 64 << 10
	return []route{
		{"GET", wire.PathWhoami, viewers, 0, (*server).whoami},
		{"GET", wire.PathMachines, viewers, 0, (*server).listMachines},
		{"GET", wire.PathMachine, viewers, 0, (*server).showMachine},
		{"PATCH", wire.PathMachine, operators, small, (*server).changeMachine},
		{"DELETE", wire.PathMachine, operators, 0, (*server).removeMachine},
		{"POST", wire.PathMachinePause, operators, 0, (*server).pause},
		{"POST", wire.PathMachineGoOn, operators, 0, (*server).resume},
		{"POST", wire.PathMachineSync, operators, 0, (*server).sync},
		{"GET", wire.PathSync, viewers, 0, (*server).showSync},
		{"POST", wire.PathRevoke, admins, 0, (*server).revoke},
		{"POST", wire.PathUnfreeze, admins, 0, (*server).unfreeze},
		{"GET", wire.PathRestpointsOf, viewers, 0, (*server).listRestpoints},
		{"GET", wire.PathRestpoint, viewers, 0, (*server).showRestpoint},
		{"GET", wire.PathDiff, viewers, 0, (*server).diff},
		{"POST", wire.PathPin, operators, 0, (*server).pin},
		{"DELETE", wire.PathPin, operators, 0, (*server).unpin},
		{"DELETE", wire.PathRestpointRm, operators, 0, (*server).removeRestpoint},
		{"GET", wire.PathJobs, viewers, 0, (*server).listJobs},
		{"POST", wire.PathJobs, operators, small, (*server).createJob},
		{"GET", wire.PathJobInfo, viewers, 0, (*server).showJob},
		{"DELETE", wire.PathJobInfo, operators, 0, (*server).cancelJob},
		{"POST", wire.PathJobHold, operators, 0, (*server).holdJob},
		{"GET", wire.PathNodes, viewers, 0, (*server).listNodes},
		{"GET", wire.PathEnrolTokens, admins, 0, (*server).listEnrolTokens},
		{"POST", wire.PathEnrolTokens, admins, small, (*server).createEnrolToken},
		{"DELETE", wire.PathEnrolToken, admins, 0, (*server).removeEnrolToken},
		{"GET", wire.PathTokens, admins, 0, (*server).listTokens},
		{"POST", wire.PathTokens, admins, small, (*server).createToken},
		{"DELETE", wire.PathToken, admins, 0, (*server).removeToken},
		{"GET", wire.PathStagingStats, viewers, 0, (*server).stagingStats},
		{"POST", wire.PathStagingRun, admins, 0, (*server).stagingRun},
		{"POST", wire.PathRecoveryKey, admins, 0, (*server).recoveryKey},
	}
}

func (s *server) whoami(c *call) error {
	return c.answer(http.StatusOK, wire.Whoami{Name: c.tok.Name, Role: c.tok.Role, Project: c.tok.Project, Version: s.Version})
}

// machine reads the machine of the path; one of another project is as good as absent.
func (s *server) machine(c *call) (catalog.Machine, error) {
	ref := c.r.PathValue("machine")
	m, err := s.Catalog.Machine(c.ctx, ref)
	if err == nil && m.Project != c.tok.Project {
		return m, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no machine %.100q", ref)
	}
	return m, err
}

// restpoint reads a restpoint, if it is of the caller's project.
func (s *server) restpoint(c *call, ref string) (catalog.Restpoint, error) {
	r, err := s.Catalog.Restpoint(c.ctx, ref)
	if err == nil && r.Project != c.tok.Project {
		return r, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no restpoint %.100q", ref)
	}
	return r, err
}

func (s *server) listMachines(c *call) error {
	list, err := s.Catalog.Machines(c.ctx, c.tok.Project)
	if err != nil {
		return err
	}
	out := make([]wire.MachineInfo, 0, len(list))
	for i := range list {
		info := machineInfo(&list[i])
		info.Inventory, info.Events = nil, nil
		out = append(out, info)
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) showMachine(c *call) error {
	m, err := s.machine(c)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, machineInfo(&m))
}

func machineInfo(m *catalog.Machine) wire.MachineInfo {
	state := m.Replication(time.Now())
	interval := wire.Duration(m.Interval)
	info := wire.MachineInfo{
		ID: m.ID, Name: m.Name, Replication: state, NextStep: nextStep(m, state), Created: m.Created, LastSeen: m.LastSeen,
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

// nextStep tells the operator what to do about a machine.
func nextStep(m *catalog.Machine, state string) string {
	switch {
	case m.Revoked:
		return "remove it, or enrol it again with a new token"
	case m.Frozen != "":
		return "find the second agent that uses this identity and stop it, then: machines unfreeze " + m.Name
	case m.Paused:
		return "machines resume " + m.Name
	}
	switch state {
	case "enrolled":
		return "wait for its first restpoint, or: machines sync " + m.Name
	case "disconnected":
		return "see that its agent runs and reaches this master"
	case "stalled", "lagging":
		return "see what its agent reports: machines show " + m.Name
	}
	return "none"
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
	if p.ChunkSize != nil && *p.ChunkSize != 0 {
		if err := chunker.CheckSize(*p.ChunkSize); err != nil {
			bad := wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, "%v", err)
			bad.Field = "chunk_size"
			return bad
		}
	}
	if p.Bandwidth != nil && *p.Bandwidth < 0 {
		bad := wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, "bandwidth %d: want bytes per second, 0 for no limit", *p.Bandwidth)
		bad.Field = "bandwidth"
		return bad
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
	return c.answer(http.StatusOK, machineInfo(&m))
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
		return s.Identity.Revoke(c.ctx, ca.KindAgent, id, "the machine was removed")
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
		if err := s.Catalog.Revoke(c.ctx, id); err != nil {
			return err
		}
		return s.Identity.Revoke(c.ctx, ca.KindAgent, id, "an operator revoked it")
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

func (s *server) listNodes(c *call) error {
	nodes, err := s.Identity.Nodes(c.ctx, c.tok.Project)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, nodes)
}

func (s *server) listEnrolTokens(c *call) error {
	list, err := s.Identity.EnrolTokens(c.ctx, c.tok.Project)
	if err != nil {
		return err
	}
	out := make([]wire.EnrolTokenInfo, 0, len(list))
	for i := range list {
		out = append(out, enrolInfo(&list[i], ""))
	}
	return c.answer(http.StatusOK, out)
}

func enrolInfo(t *identity.EnrolToken, text string) wire.EnrolTokenInfo {
	return wire.EnrolTokenInfo{ID: t.ID, Kind: t.Kind, Created: t.Created, Expires: t.Expires, Uses: t.Uses,
		UsedBy: append([]string{}, t.UsedBy...), ByWhom: t.ByWhom, Token: text}
}

func (s *server) createEnrolToken(c *call) error {
	var q wire.EnrolTokenRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if q.Kind == "" {
		q.Kind = ca.KindAgent
	}
	t, text, err := s.Identity.NewEnrolToken(c.ctx, s.URL, c.tok.Project, q.Kind, c.tok.Name, time.Duration(q.Valid), q.Uses)
	if err != nil {
		return err
	}
	s.audit(c, "made enrolment token", t.ID)
	return c.answer(http.StatusCreated, enrolInfo(t, text))
}

func (s *server) removeEnrolToken(c *call) error {
	if err := s.Identity.RemoveEnrolToken(c.ctx, c.r.PathValue("token")); err != nil {
		return err
	}
	s.audit(c, "removed enrolment token", c.r.PathValue("token"))
	return c.done()
}

func (s *server) listTokens(c *call) error {
	list, err := s.Identity.Tokens(c.ctx, c.tok.Project)
	if err != nil {
		return err
	}
	out := make([]wire.TokenInfo, 0, len(list))
	for i := range list {
		out = append(out, tokenInfo(&list[i], ""))
	}
	return c.answer(http.StatusOK, out)
}

func tokenInfo(t *identity.Token, text string) wire.TokenInfo {
	return wire.TokenInfo{ID: t.ID, Name: t.Name, Role: t.Role, Created: t.Created, Expires: t.Expires, Token: text}
}

func (s *server) createToken(c *call) error {
	var q wire.TokenRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	t, text, err := s.Identity.NewToken(c.ctx, c.tok.Project, q.Name, q.Role, time.Duration(q.Valid))
	if err != nil {
		return err
	}
	s.audit(c, "made token", t.Name)
	return c.answer(http.StatusCreated, tokenInfo(t, text))
}

func (s *server) removeToken(c *call) error {
	if err := s.Identity.RemoveToken(c.ctx, c.r.PathValue("token")); err != nil {
		return err
	}
	s.audit(c, "removed token", c.r.PathValue("token"))
	return c.done()
}

func (s *server) stagingStats(c *call) error {
	report, err := s.Staging.Stats(c.ctx)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, report)
}

func (s *server) recoveryKey(c *call) error {
	key, err := s.Staging.NewRecoveryKey(c.ctx, c.tok.Name+" "+time.Now().UTC().Format(time.DateOnly))
	if err != nil {
		return err
	}
	s.audit(c, "made recovery key", "")
	return c.answer(http.StatusCreated, wire.RecoveryKey{Key: key})
}

// stagingRun does a long operation and streams a line of JSON for each step, the report last.
func (s *server) stagingRun(c *call) error {
	var run func(func(wire.Progress)) (any, error)
	switch op := c.r.PathValue("operation"); op {
	case "check", "check-deep":
		run = func(p func(wire.Progress)) (any, error) { return s.Staging.Check(c.ctx, op == "check-deep", p) }
	case "gc":
		run = func(p func(wire.Progress)) (any, error) { return s.Staging.Collect(c.ctx, p) }
	case "rebuild-index":
		run = func(p func(wire.Progress)) (any, error) { return s.Staging.Rebuild(c.ctx, p) }
	default:
		return wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no operation %.40q on staging", op)
	}
	s.audit(c, "runs", "staging "+c.r.PathValue("operation"))
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(c.w)
	flush := http.NewResponseController(c.w)
	last := time.Time{}
	report, err := run(func(p wire.Progress) {
		if time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		_ = out.Encode(wire.StagingLine{Progress: &p}) // a caller that is gone is noticed by the context
		_ = flush.Flush()
	})
	line := wire.StagingLine{}
	if err == nil {
		line.Report, err = json.Marshal(report)
	}
	if err != nil {
		line.Problem = problemOf(err)
		s.Log.Error("staging operation failed", "operation", c.r.PathValue("operation"), "error", err)
	}
	_ = out.Encode(line)
	return nil
}

// problemOf makes a problem of any error whose text an admin may see.
func problemOf(err error) *wire.Problem {
	if p := (*wire.Problem)(nil); asProblem(err, &p) {
		return p
	}
	return wire.NewProblem(http.StatusInternalServerError, wire.CodeInternal, "%s", strings.TrimSpace(err.Error()))
}
