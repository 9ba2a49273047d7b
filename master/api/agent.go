package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// routes is every operation of agents, nodes and copies; those of people are in operator.go.
func routes() []route {
	return []route{
		{"POST", wire.PathEnroll, anybody, wire.MaxJSON, (*server).enroll},
		{"POST", wire.PathRenewExpired, renewers, 64 << 10, (*server).renew},

		{"POST", wire.PathAgentRenew, agents, 64 << 10, (*server).renew},
		{"POST", wire.PathAgentHello, agents, wire.MaxJSON, (*server).agentHello},
		{"GET", wire.PathAgentAssignment, agents, 0, (*server).assignment},
		{"POST", wire.PathAgentReport, agents, wire.MaxJSON, (*server).report},
		{"POST", wire.PathAgentSessions, agents, wire.MaxJSON, (*server).openSession},
		{"POST", wire.PathSessionRenew, agents, 64 << 10, (*server).renewSession},
		{"POST", wire.PathSessionOffer, agents, wire.MaxOffer * 32, (*server).offer},
		{"POST", wire.PathSessionPacks, agents, wire.MaxJSON, (*server).announce},
		{"POST", wire.PathSessionPack, agents, wire.MaxEntries, (*server).commitPack},
		{"POST", wire.PathSessionCommit, agents, 2 * wire.MaxManifest, (*server).commitSession},
		{"POST", wire.PathSessionAbort, agents, wire.MaxJSON, (*server).abortSession},

		{"POST", wire.PathNodeRenew, nodes, 64 << 10, (*server).renew},
		{"POST", wire.PathNodeHello, nodes, wire.MaxJSON, (*server).nodeHello},
		{"POST", wire.PathNodeLease, nodes, 64 << 10, (*server).leaseJob},

		{"POST", wire.PathJobRenew, holders, 64 << 10, (*server).renewJob},
		{"POST", wire.PathJobResolve, holders, wire.MaxOffer * 32, (*server).resolve},
		{"POST", wire.PathJobURLs, holders, wire.MaxJSON, (*server).jobURLs},
		{"POST", wire.PathJobQuarantine, holders, wire.MaxJSON, (*server).quarantine},
		{"POST", wire.PathJobReport, holders, wire.MaxJSON, (*server).reportJob},
		{"POST", wire.PathJobComplete, holders, wire.MaxJSON, (*server).completeJob},
		{"POST", wire.PathJobFail, holders, wire.MaxJSON, (*server).failJob},

		{"POST", wire.PathCallHome, anybody, 4 << 10, (*server).callHome},
	}
}

func (s *server) enroll(c *call) error {
	var q wire.EnrollRequest
	err := c.decode(&q)
	c.answerWithin(enrolAnswer) // the body had the server's time to come
	if err != nil {
		return err
	}
	out, err := s.Identity.Enroll(c.ctx, &q)
	if err != nil {
		return err
	}
	s.Log.Info("enrolled", "kind", q.Kind, "id", out.ID, "name", out.Name)
	return c.answer(http.StatusOK, out)
}

func (s *server) renew(c *call) error {
	var q wire.RenewRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if c.id.Kind == ca.KindAgent { // paths of renewal do not look at generations, and so not at the machine
		m, err := s.Catalog.Machine(c.ctx, c.id.ID)
		if wire.HasCode(err, wire.CodeNotFound) || err == nil && (m.Revoked || m.ID != c.id.ID) {
			return wire.NewProblem(http.StatusForbidden, wire.CodeRevoked, "this machine was removed or revoked").WithNext("enrol again with a new token")
		}
		if err != nil {
			return err
		}
	}
	out, err := s.Identity.Renew(c.ctx, c.id, q.CSR)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) agentHello(c *call) error {
	var h wire.Hello
	if err := c.decode(&h); err != nil {
		return err
	}
	out, err := s.Catalog.Hello(c.ctx, c.id.ID, h)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) assignment(c *call) error {
	q := c.r.URL.Query()
	version, err1 := strconv.ParseUint(q.Get("version"), 10, 64)
	d, err2 := time.ParseDuration(q.Get("wait"))
	if err1 != nil || err2 != nil {
		return wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, "want ?version=NUMBER&wait=DURATION")
	}
	a, changed, err := s.Catalog.Assignment(c.ctx, c.id.ID, version, wait(d))
	if err != nil {
		return err
	}
	if !changed {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return c.answer(http.StatusOK, a)
}

func (s *server) report(c *call) error {
	var r wire.Report
	if err := c.decode(&r); err != nil {
		return err
	}
	if err := s.Catalog.Report(c.ctx, c.id.ID, r); err != nil {
		return err
	}
	return c.done()
}

func (s *server) openSession(c *call) error {
	var q wire.SessionRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	out, err := s.Catalog.OpenSession(c.ctx, c.id.ID, q)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) renewSession(c *call) error {
	var p wire.Progress
	if err := c.decode(&p); err != nil {
		return err
	}
	out, err := s.Catalog.RenewSession(c.ctx, c.id.ID, c.r.PathValue("session"), p)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) offer(c *call) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	ids, err := wire.DecodeIDs(b)
	if err != nil {
		return wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, "%v", err)
	}
	known, err := s.Catalog.Offer(c.ctx, c.id.ID, c.r.PathValue("session"), ids)
	if err != nil {
		return err
	}
	return c.binary(known)
}

func (s *server) announce(c *call) error {
	var packs []wire.PackAnnounce
	if err := c.decode(&packs); err != nil {
		return err
	}
	out, err := s.Catalog.Announce(c.ctx, c.id.ID, c.r.PathValue("session"), packs)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) commitPack(c *call) error {
	pack, err := format.ParsePackID(c.r.PathValue("pack"))
	if err != nil {
		return wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, "%v", err)
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	if err := s.Catalog.CommitPack(c.ctx, c.id.ID, c.r.PathValue("session"), pack, b); err != nil {
		return err
	}
	return c.done()
}

func (s *server) commitSession(c *call) error {
	var manifest []byte
	if err := c.decode(&manifest); err != nil {
		return err
	}
	out, err := s.Catalog.CommitSession(c.ctx, c.id.ID, c.r.PathValue("session"), manifest)
	if err != nil {
		return err
	}
	s.Log.Info("restpoint listed", "machine", c.id.ID, "restpoint", out.Restpoint, "sequence", out.Sequence)
	return c.answer(http.StatusOK, out)
}

func (s *server) abortSession(c *call) error {
	var f wire.Failure
	if err := c.decode(&f); err != nil {
		return err
	}
	s.Log.Warn("session aborted", "machine", c.id.ID, "code", f.Code, "reason", f.Message)
	if err := s.Catalog.AbortSession(c.ctx, c.id.ID, c.r.PathValue("session"), f); err != nil {
		return err
	}
	return c.done()
}
