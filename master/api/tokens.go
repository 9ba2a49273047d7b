package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/wire"
)

func (s *server) registerTokens(api huma.API) {
	add(s, api, op{id: "list-enrolment-tokens", method: "GET", path: wire.PathEnrolTokens, tag: "enrolment", summary: "List enrolment tokens and who used them"}, s.listEnrolTokens)
	add(s, api, op{id: "create-enrolment-token", method: "POST", path: wire.PathEnrolTokens, tag: "enrolment", summary: "Make an enrolment token",
		text: "Its text is in the answer and nowhere else.", status: http.StatusCreated, creates: true}, s.createEnrolToken)
	add(s, api, op{id: "remove-enrolment-token", method: "DELETE", path: wire.PathEnrolToken, tag: "enrolment", summary: "Make an enrolment token worthless"}, s.removeEnrolToken)
	add(s, api, op{id: "list-tokens", method: "GET", path: wire.PathTokens, tag: "access", summary: "List API tokens"}, s.listTokens)
	add(s, api, op{id: "create-token", method: "POST", path: wire.PathTokens, tag: "access", summary: "Make an API token",
		text: "Its text is in the answer and nowhere else.", status: http.StatusCreated, creates: true}, s.createToken)
	add(s, api, op{id: "remove-token", method: "DELETE", path: wire.PathToken, tag: "access", summary: "Make an API token worthless"}, s.removeToken)
}

type tokenRef struct {
	Token string `path:"token" maxLength:"256" doc:"Its id."`
}

func (s *server) listEnrolTokens(ctx context.Context, in *PageParams) (*pageOut[wire.EnrolTokenInfo], error) {
	list, err := s.Identity.EnrolTokens(ctx, person(ctx).Project)
	if err != nil {
		return nil, err
	}
	out := make([]wire.EnrolTokenInfo, 0, len(list))
	for i := range list {
		out = append(out, enrolInfo(&list[i], ""))
	}
	return listed(out, in, "-created", func(t *wire.EnrolTokenInfo) sortKey { return sortKey{Number: t.Created.UnixNano(), ID: t.ID} })
}

func enrolInfo(t *identity.EnrolToken, text string) wire.EnrolTokenInfo {
	return wire.EnrolTokenInfo{ID: t.ID, Kind: t.Kind, Created: t.Created, Expires: t.Expires, Uses: t.Uses,
		UsedBy: append([]string{}, t.UsedBy...), ByWhom: t.ByWhom, Token: text}
}

type createEnrolTokenIn struct {
	Idempotent
	Body wire.EnrolTokenRequest
}

type enrolTokenOut struct{ Body wire.EnrolTokenInfo }

func (s *server) createEnrolToken(ctx context.Context, in *createEnrolTokenIn) (*enrolTokenOut, error) {
	q, p := &in.Body, person(ctx)
	if q.Kind == "" {
		q.Kind = ca.KindAgent
	}
	t, text, err := s.Identity.NewEnrolToken(ctx, s.URL, p.Project, q.Kind, p.Name, time.Duration(q.Valid), q.Uses)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "enrolment-token", t.ID, t.Kind, nil, enrolInfo(t, ""))
	return &enrolTokenOut{enrolInfo(t, text)}, nil
}

func (s *server) removeEnrolToken(ctx context.Context, in *tokenRef) (*struct{}, error) {
	t, err := s.Identity.EnrolToken(ctx, person(ctx).Project, in.Token)
	if err != nil {
		return nil, err
	}
	if err := s.Identity.RemoveEnrolToken(ctx, t.ID); err != nil {
		return nil, err
	}
	s.changed(ctx, "enrolment-token", t.ID, t.Kind, enrolInfo(t, ""), nil)
	return nil, nil
}

func (s *server) listTokens(ctx context.Context, in *PageParams) (*pageOut[wire.TokenInfo], error) {
	list, err := s.Accounts.Tokens(ctx, person(ctx).Project)
	if err != nil {
		return nil, err
	}
	out := make([]wire.TokenInfo, 0, len(list))
	for i := range list {
		out = append(out, tokenInfo(&list[i], ""))
	}
	return listed(out, in, "name", func(t *wire.TokenInfo) sortKey { return sortKey{Text: t.Name, ID: t.ID} })
}

func tokenInfo(t *accounts.Token, text string) wire.TokenInfo {
	return wire.TokenInfo{ID: t.ID, Name: t.Name, Role: t.Role, Created: t.Created, Expires: t.Expires, Token: text, Scopes: t.Scopes, Owner: t.Owner, Used: t.Used}
}

type createTokenIn struct {
	Idempotent
	Body wire.TokenRequest
}

type tokenOut struct{ Body wire.TokenInfo }

func (s *server) createToken(ctx context.Context, in *createTokenIn) (*tokenOut, error) {
	q := &in.Body
	if !words(q.Name, 1, wire.MaxNameLength) {
		return nil, badField("name", "name: want up to %d bytes of printable text", wire.MaxNameLength)
	}
	for _, scope := range q.Scopes {
		tag, _, _ := strings.Cut(scope, ":")
		if !slices.ContainsFunc(tagList, func(t [2]string) bool { return t[0] == tag }) {
			return nil, badField("scopes", "scope %.40q: there are no operations of that kind", scope).WithNext("want a tag of the OpenAPI document, or TAG:read")
		}
	}
	p := person(ctx)
	t, text, err := s.Accounts.NewToken(ctx, p.Principal, accounts.Token{Project: p.Project, Name: q.Name, Role: q.Role, Scopes: q.Scopes}, time.Duration(q.Valid))
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "token", t.ID, t.Name, nil, tokenInfo(t, ""))
	return &tokenOut{tokenInfo(t, text)}, nil
}

func (s *server) removeToken(ctx context.Context, in *tokenRef) (*struct{}, error) {
	t, err := s.Accounts.Token(ctx, in.Token)
	if err == nil && t.Project != person(ctx).Project {
		err = wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no token %.64q", in.Token)
	}
	if err != nil {
		return nil, err
	}
	if err := s.Accounts.RemoveToken(ctx, t.ID); err != nil {
		return nil, err
	}
	s.changed(ctx, "token", t.ID, t.Name, tokenInfo(t, ""), nil)
	return nil, nil
}
