package api

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/wire"
)

// admit checks that the caller may use a route, and who it is.
func (s *server) admit(c *call, rt route) (done func(), err error) {
	bearer, hasBearer := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	switch rt.who {
	case anybody:
		if rt.path == wire.PathCallHome {
			return func() {}, s.admitStranger(c, s.calling, "calls")
		}
		return func() {}, s.admitStranger(c, s.enrolling, "enrolments")
	case agents:
		return s.admitCertificate(c, ca.KindAgent, false)
	case nodes:
		return s.admitCertificate(c, ca.KindNode, false)
	case renewers:
		return s.admitCertificate(c, "", true)
	case holders:
		if !hasBearer {
			return s.admitCertificate(c, ca.KindNode, false)
		}
		who, err := s.bearer(c.ctx, bearer, "")
		if err != nil {
			return nil, err
		}
		if err := who.Check(who.Project, accounts.RoleOperator, "jobs", true); err != nil {
			return nil, err
		}
		ctx, done, err := s.Accounts.Admit(c.ctx, who.Principal)
		if err != nil {
			return nil, err
		}
		c.ctx, c.who = ctx, who
		return done, nil
	}
	return nil, wire.NewProblem(http.StatusForbidden, wire.CodeForbidden, "nobody may call this") // no route is so
}

// enrolAnswer is how long enrolling may take, from when the request was read to when the answer was taken.
const enrolAnswer = 30 * time.Second

// admitStranger limits those who have shown nothing yet.
func (s *server) admitStranger(c *call, limit *addresses, what string) error {
	wait, ok := limit.allow(c.r.RemoteAddr, time.Now())
	if ok {
		return nil
	}
	c.answerWithin(enrolAnswer)
	c.w.Header().Set("Retry-After", strconv.FormatFloat(math.Ceil(wait.Seconds()), 'f', 0, 64))
	return wire.NewProblem(http.StatusTooManyRequests, wire.CodeUnavailable, "too many %s come from this address", what).WithNext("try again in a minute")
}

// admitCertificate takes an agent or node in: certificate, kind, deny-list, and generation.
func (s *server) admitCertificate(c *call, kind string, expired bool) (done func(), err error) {
	if c.r.TLS == nil || len(c.r.TLS.PeerCertificates) == 0 {
		return nil, wire.NewProblem(http.StatusUnauthorized, wire.CodeUnauthorized, "a client certificate is needed").
			WithNext("enrol with a token first")
	}
	who, err := s.CA.Identify(c.r.TLS.PeerCertificates[0], expired)
	if err != nil {
		return nil, wire.NewProblem(http.StatusUnauthorized, wire.CodeUnauthorized, "%v", err).
			WithNext("an expired certificate can be renewed for 30 days; after that, enrol again with a new token")
	}
	if kind != "" && who.Kind != kind {
		return nil, wire.NewProblem(http.StatusForbidden, wire.CodeForbidden, "this is for a kind %s, not %s", kind, who.Kind)
	}
	ctx, done, err := s.Identity.Admit(c.ctx, who)
	if err != nil {
		return nil, err
	}
	c.ctx, c.id = ctx, who
	if err := s.checkGeneration(c, expired); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// checkGeneration refuses a copy of an identity. Hello itself brings the generation, and renewals may come before it.
func (s *server) checkGeneration(c *call, renewal bool) error {
	path := c.r.URL.Path
	if renewal || path == wire.PathAgentHello || path == wire.PathNodeHello || path == wire.PathAgentRenew || path == wire.PathNodeRenew {
		return nil
	}
	generation, err := strconv.ParseUint(c.r.Header.Get(wire.HeaderGeneration), 10, 64)
	if err != nil {
		return wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, "header %s: want a number", wire.HeaderGeneration)
	}
	if c.id.Kind == ca.KindAgent {
		return s.Catalog.CheckGeneration(c.ctx, c.id.ID, generation)
	}
	return s.Identity.CheckNode(c.ctx, c.id.ID, generation)
}
