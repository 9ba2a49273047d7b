package master

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strings"

	"github.com/openmigrate/openmigrate/internal/telemetry"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/audit"
	"github.com/openmigrate/openmigrate/master/observe"
	"github.com/openmigrate/openmigrate/master/oidc"
	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/wire"
)

// Paths beside those of the API, for who runs the master: roles in all projects are needed.
const (
	metricsPath = "/metrics"      // viewers
	pprofPath   = "/debug/pprof/" // admins
)

// door is all that is served: the API, metrics and profiles, and logins through an OpenID Connect provider if there is one.
func (m *Master) door() (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("/", m.handler)
	mux.Handle("GET "+metricsPath, m.guarded(accounts.RoleViewer, "metrics", m.metrics.Handler()))
	for path, h := range map[string]http.HandlerFunc{"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace} {
		mux.Handle("GET "+pprofPath+path, m.guarded(accounts.RoleAdmin, "debug", h))
	}
	if m.conf.OIDC == nil {
		return m.measured(mux), nil
	}
	conf := *m.conf.OIDC
	conf.RedirectURL = m.URL() + oidc.CallbackPath
	p, err := oidc.New(conf)
	if err != nil {
		return nil, err
	}
	h := oidc.NewHandler(p, m.Accounts, m.loggedIn, m.log)
	mux.Handle(oidc.BeginPath, h)
	mux.Handle(oidc.CallbackPath, h)
	return m.measured(mux), nil
}

// measured adds metrics and traces.
func (m *Master) measured(next http.Handler) http.Handler {
	return telemetry.Handler(m.metrics.Requests(next), func(r *http.Request) string { return observe.Door(r.URL.Path) })
}

// oidcHost names the provider to people; empty: there is none.
func (m *Master) oidcHost() string {
	if m.conf.OIDC == nil {
		return ""
	}
	if u, err := url.Parse(m.conf.OIDC.Issuer); err == nil {
		return u.Host
	}
	return ""
}

// loggedIn writes a login through a provider into the audit log.
func (m *Master) loggedIn(ctx context.Context, l *accounts.Login, from string) {
	who := audit.Who{Kind: accounts.KindUser, ID: l.User.ID, Name: l.User.Name}
	if err := m.Audit.Record(ctx, audit.Change{Who: who, From: from, Operation: "login-oidc", Kind: "session", ID: l.Session.ID}); err != nil {
		m.log.Error("a login is not in the audit log", "user", l.User.Name, "error", err)
	}
}

// emit gives what was observed to webhooks.
func (m *Master) emit(ctx context.Context, events []observe.Event) error {
	list := make([]webhook.Event, len(events))
	for i, e := range events {
		list[i] = webhook.Event(e)
	}
	return m.Webhooks.EmitAll(ctx, list)
}

// guarded lets those in who have a role in all projects.
func (m *Master) guarded(role, resource string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, done, err := m.admit(r, role, resource)
		if err != nil {
			var p *wire.Problem
			if !errors.As(err, &p) {
				m.log.Error("request failed", "path", r.URL.Path, "error", err)
				p = wire.NewProblem(http.StatusInternalServerError, wire.CodeInternal, "the master failed; its log says why")
			}
			w.Header().Set("Content-Type", wire.ProblemType)
			w.WriteHeader(p.Status)
			_ = json.NewEncoder(w).Encode(p) // the caller may be gone
			return
		}
		defer done()
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (m *Master) admit(r *http.Request, role, resource string) (ctx context.Context, done func(), err error) {
	var p *accounts.Principal
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		p, err = m.Accounts.Bearer(r.Context(), bearer)
	} else {
		p, err = m.Accounts.Session(r.Context(), accounts.CookieText(r, accounts.SessionCookieName))
	}
	if err != nil {
		return nil, nil, err
	}
	if err := p.Check(accounts.AllProjects, role, resource, false); err != nil {
		return nil, nil, err
	}
	return m.Accounts.Admit(r.Context(), p)
}
