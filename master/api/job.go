package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

func (s *server) nodeHello(c *call) error {
	var h wire.Hello
	if err := c.decode(&h); err != nil {
		return err
	}
	if err := s.Identity.NodeHello(c.ctx, c.id.ID, &h); err != nil {
		return err
	}
	if err := s.Catalog.NodeStarted(c.ctx, c.id.ID); err != nil {
		// Their leases run out.
		s.Log.Warn("the jobs of a node's last process could not be taken back at once", "node", c.id.ID, "error", err)
	}
	return c.answer(http.StatusOK, wire.HelloResponse{Now: time.Now().UTC()})
}

func (s *server) leaseJob(c *call) error {
	var q wire.LeaseRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	q.Wait = wire.Duration(wait(time.Duration(q.Wait)))
	job, err := s.Catalog.LeaseJob(c.ctx, c.id.ID, q)
	if err != nil {
		return err
	}
	if job == nil {
		return c.done()
	}
	return c.answer(http.StatusOK, job)
}

func (s *server) renewJob(c *call) error {
	var p wire.Progress
	if err := c.decode(&p); err != nil {
		return err
	}
	out, err := s.Catalog.RenewJob(c.ctx, c.holder(), c.r.PathValue("job"), p)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) resolve(c *call) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	ids, err := wire.DecodeIDs(b)
	if err != nil {
		return wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, "%v", err)
	}
	locations, err := s.Catalog.JobResolve(c.ctx, c.holder(), c.r.PathValue("job"), ids)
	if err != nil {
		return err
	}
	return c.binary(wire.EncodeLocations(make([]byte, 0, len(locations)*wire.LocationSize), locations))
}

func (s *server) jobURLs(c *call) error {
	var q wire.URLRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	out, err := s.Catalog.JobURLs(c.ctx, c.holder(), c.r.PathValue("job"), q)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, out)
}

func (s *server) quarantine(c *call) error {
	var damage []wire.Damage
	if err := c.decode(&damage); err != nil {
		return err
	}
	s.Log.Warn("damage reported", "caller", c.name(), "job", c.r.PathValue("job"), "copies", len(damage))
	if err := s.Catalog.JobQuarantine(c.ctx, c.holder(), c.r.PathValue("job"), damage); err != nil {
		return err
	}
	return c.done()
}

func (s *server) reportJob(c *call) error {
	var report json.RawMessage
	if err := c.decode(&report); err != nil {
		return err
	}
	if err := s.Catalog.ReportJob(c.ctx, c.holder(), c.r.PathValue("job"), report); err != nil {
		return err
	}
	return c.done()
}

func (s *server) completeJob(c *call) error {
	var r wire.JobResult
	if err := c.decode(&r); err != nil {
		return err
	}
	if err := s.Catalog.CompleteJob(c.ctx, c.holder(), c.r.PathValue("job"), r); err != nil {
		return err
	}
	return c.done()
}

func (s *server) failJob(c *call) error {
	var f wire.Failure
	if err := c.decode(&f); err != nil {
		return err
	}
	s.Log.Warn("job failed", "caller", c.name(), "job", c.r.PathValue("job"), "code", f.Code, "reason", f.Message)
	if err := s.Catalog.FailJob(c.ctx, c.holder(), c.r.PathValue("job"), f); err != nil {
		return err
	}
	return c.done()
}
