package oidc

import (
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/wire"
)

// Paths of the handler. CallbackPath is what the provider must know as this master's redirect URI.
const (
	BeginPath    = "/login/oidc"          // ?return=PATH&link=ONE-TIME-LINK
	CallbackPath = "/login/oidc/callback" //
)

// atOnce bounds how many answers are taken to the provider at once.
const atOnce = 8

// Handler lets browsers log in. Told is told of each login, for the audit log; it may be nil.
type Handler struct {
	provider *Provider
	accounts *accounts.Service
	told     func(ctx context.Context, l *accounts.Login, from string)
	log      *slog.Logger
	places   chan struct{}
}

// NewHandler serves BeginPath and CallbackPath.
func NewHandler(p *Provider, a *accounts.Service, told func(context.Context, *accounts.Login, string), log *slog.Logger) *Handler {
	return &Handler{provider: p, accounts: a, told: told, log: log, places: make(chan struct{}, atOnce)}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer") // the address has the code in it
	to, err := h.serve(w, r)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (to string, err error) {
	if r.Method != http.MethodGet {
		return "", wire.NewProblem(405, wire.CodeBadRequest, "this is for browsers that visit it")
	}
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	default:
		return "", wire.NewProblem(503, wire.CodeUnavailable, "too many people log in at once").WithNext("try again in a few seconds")
	}
	switch r.URL.Path {
	case BeginPath:
		to, c, err := h.provider.Begin(r.Context(), r.URL.Query().Get("return"), r.URL.Query().Get("link"))
		if err == nil {
			http.SetCookie(w, c)
		}
		return to, err
	case CallbackPath:
		http.SetCookie(w, accounts.LoginOver())
		a, err := h.provider.Finish(r.Context(), r)
		if err != nil {
			return "", err
		}
		l, err := h.accounts.LoginExternal(r.Context(), a.External, a.Link, r.RemoteAddr, r.UserAgent())
		if err != nil {
			return "", err
		}
		if h.told != nil {
			h.told(r.Context(), l, r.RemoteAddr)
		}
		for _, c := range l.Cookies() {
			http.SetCookie(w, c)
		}
		return a.Return, nil
	}
	return "", wire.NewProblem(404, wire.CodeNotFound, "there is nothing here")
}

var failure = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Login failed - OpenMigrate</title>
<h1>Login failed</h1><p>{{.Error}}.</p>{{with .Next}}<p>Next: {{.}}.</p>{{end}}<p><a href="/">Back to OpenMigrate</a></p></html>
`))

// fail shows what went wrong, in a page that runs and loads nothing.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *wire.Problem
	if !errors.As(err, &p) {
		h.log.Error("login through OpenID Connect failed", "error", err)
		p = wire.NewProblem(500, wire.CodeInternal, "the master failed; its log says why")
	} else {
		h.log.Info("login through OpenID Connect refused", "from", r.RemoteAddr, "reason", p.Detail)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_ = failure.Execute(w, struct{ Error, Next string }{p.Detail, p.Next}) // the browser may be gone
}
