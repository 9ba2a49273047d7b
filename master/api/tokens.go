package api

import (
	"net/http"
	"time"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/wire"
)

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
	list, err := s.Accounts.Tokens(c.ctx, c.tok.Project)
	if err != nil {
		return err
	}
	out := make([]wire.TokenInfo, 0, len(list))
	for i := range list {
		out = append(out, tokenInfo(&list[i], ""))
	}
	return c.answer(http.StatusOK, out)
}

func tokenInfo(t *accounts.Token, text string) wire.TokenInfo {
	return wire.TokenInfo{ID: t.ID, Name: t.Name, Role: t.Role, Created: t.Created, Expires: t.Expires, Token: text}
}

func (s *server) createToken(c *call) error {
	var q wire.TokenRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	t, text, err := s.Accounts.NewToken(c.ctx, c.tok, accounts.Token{Project: c.tok.Project, Name: q.Name, Role: q.Role}, time.Duration(q.Valid))
	if err != nil {
		return err
	}
	s.audit(c, "made token", t.Name)
	return c.answer(http.StatusCreated, tokenInfo(t, text))
}

func (s *server) removeToken(c *call) error {
	if err := s.Accounts.RemoveToken(c.ctx, c.r.PathValue("token")); err != nil {
		return err
	}
	s.audit(c, "removed token", c.r.PathValue("token"))
	return c.done()
}
