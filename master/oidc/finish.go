package oidc

import (
	"context"
	"crypto/subtle"
	"fmt"
	"maps"
	"net/http"
	"strings"

	oidclib "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/wire"
)

// Answer is who the provider says that somebody is.
type Answer struct {
	accounts.External
	Return string // path that the browser wants back to
	Link   string // one-time link that the login spends; may be empty
}

// refused is for whatever does not fit: it tells no more than is needed.
func refused(format string, args ...any) error {
	return wire.NewProblem(401, wire.CodeUnauthorized, format, args...).WithNext("begin the login again")
}

// Finish takes the provider's answer, which its redirect brings. Take the login cookie away afterwards, whatever comes of it (accounts.LoginOver).
func (p *Provider) Finish(ctx context.Context, r *http.Request) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a, ok := p.open(accounts.CookieText(r, accounts.LoginCookieName))
	if !ok {
		return nil, refused("this login was not begun in this browser, or too long ago")
	}
	q := r.URL.Query()
	if one(q["state"]) == "" || subtle.ConstantTimeCompare([]byte(one(q["state"])), []byte(a.State)) != 1 {
		return nil, refused("this answer belongs to another login")
	}
	if iss, ok := q["iss"]; ok && one(iss) != p.conf.Issuer { // RFC 9207
		return nil, refused("this answer comes from another provider")
	}
	if code := one(q["error"]); code != "" {
		return nil, refused("the provider refused: %s", clean(code+" "+one(q["error_description"])))
	}
	code := one(q["code"])
	if code == "" || len(code) > 4096 {
		return nil, refused("the provider sent no code")
	}
	found, err := p.provider(ctx)
	if err != nil {
		return nil, err
	}
	ctx = oidclib.ClientContext(ctx, p.conf.Client)
	token, err := p.oauth(found).Exchange(ctx, code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, refused("the provider did not take its code back: %s", shortly(err))
	}
	claims, err := p.claims(ctx, found, token, a.Nonce)
	if err != nil {
		return nil, err
	}
	return &Answer{External: p.external(claims), Return: a.Return, Link: a.Link}, nil
}

func one(list []string) string {
	if len(list) != 1 {
		return ""
	}
	return list[0]
}

// claims are those of the identity token, whose signature, issuer, audience, time and nonce fit, and those that only the userinfo endpoint tells.
func (p *Provider) claims(ctx context.Context, found *oidclib.Provider, token *oauth2.Token, nonce string) (map[string]any, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, refused("the provider sent no identity")
	}
	id, err := found.VerifierContext(ctx, &oidclib.Config{ClientID: p.conf.ClientID, Now: p.conf.Clock.Now}).Verify(ctx, raw)
	if err != nil {
		return nil, refused("the identity that the provider sent is not good: %s", shortly(err))
	}
	if id.Subject == "" || len(id.Subject) > 255 { // OpenID Connect Core, section 2
		return nil, refused("the identity that the provider sent has no subject")
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1 {
		return nil, refused("the identity that the provider sent belongs to another login")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return nil, refused("the identity that the provider sent belongs to another token")
		}
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return nil, refused("the identity that the provider sent cannot be read")
	}
	if err := p.userinfo(ctx, found, token, id.Subject, claims); err != nil {
		return nil, err
	}
	claims["sub"] = id.Subject
	return claims, nil
}

// userinfo adds claims that the identity token lacks. It must not speak of somebody else (OpenID Connect Core, section 5.3.4).
func (p *Provider) userinfo(ctx context.Context, found *oidclib.Provider, token *oauth2.Token, subject string, claims map[string]any) error {
	if found.UserInfoEndpoint() == "" || complete(claims, p.conf.Claim) {
		return nil
	}
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return refused("the provider does not tell more of this person: %s", shortly(err))
	}
	if info.Subject != subject {
		return refused("the provider tells of another person than its identity")
	}
	more := map[string]any{}
	if err := info.Claims(&more); err != nil {
		return refused("what the provider tells of this person cannot be read")
	}
	// An address and whether it is verified belong together: both come from one place.
	if _, ok := claims["email"]; ok {
		delete(more, "email")
		delete(more, "email_verified")
	}
	maps.DeleteFunc(more, func(name string, _ any) bool { _, ok := claims[name]; return ok })
	maps.Copy(claims, more)
	return nil
}

func complete(claims map[string]any, claim string) bool {
	top, _, _ := strings.Cut(claim, ".")
	for _, name := range []string{"preferred_username", "email", top} {
		if _, ok := claims[name]; !ok {
			return false
		}
	}
	return true
}

// external is who somebody is for accounts.
func (p *Provider) external(claims map[string]any) accounts.External {
	e := accounts.External{Issuer: p.conf.Issuer, Subject: text(claims["sub"]), Name: text(claims["preferred_username"]), Roles: p.roles(claims)}
	if claims["email_verified"] == true { // some providers say "true": a string is not taken
		e.Email = text(claims["email"])
	}
	return e
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// roles are what the values of the claim give, the best of each project.
func (p *Provider) roles(claims map[string]any) map[string]string {
	of := map[string]string{}
	for _, v := range values(claims, p.conf.Claim) {
		for project, role := range p.conf.Roles[v] {
			if !accounts.May(of[project], role) {
				of[project] = role
			}
		}
	}
	return of
}

// values are the texts of a claim, which may be one or several. A claim whose name has dots is found as it is, too.
func values(claims map[string]any, name string) []string {
	v, ok := claims[name]
	for rest := name; !ok; {
		head, tail, more := strings.Cut(rest, ".")
		inner, isMap := claims[head].(map[string]any)
		if !more || !isMap {
			return nil
		}
		claims, rest = inner, tail
		v, ok = claims[rest]
	}
	switch t := v.(type) {
	case string:
		return []string{t}
	case []any:
		var out []string
		for _, e := range t[:min(len(t), maxValues)] {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// ParseRoles reads what --oidc-role says: VALUE=PROJECT:ROLE, again for each; PROJECT may be * for all.
func ParseRoles(list []string) (map[string]Roles, error) {
	all := map[string]Roles{}
	for _, s := range list {
		i := strings.LastIndexByte(s, '=')
		project, role, ok := strings.Cut(s[i+1:], ":")
		if i < 1 || !ok || project == "" || !accounts.May(role, accounts.RoleViewer) {
			return nil, fmt.Errorf("%q: want VALUE=PROJECT:ROLE, such as 'migration-team=default:operator' or 'it-admins=*:admin'", s)
		}
		if all[s[:i]] == nil {
			all[s[:i]] = Roles{}
		}
		all[s[:i]][project] = role
	}
	return all, nil
}
