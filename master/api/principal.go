package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// Principal is who a request comes from, and the project that it is about.
type Principal struct {
	*accounts.Principal
	Project string
	// secret is bound to the credentials and never the same for two: what is kept for a principal is sealed with it.
	secret [32]byte
}

// role is what the principal is in the request's project.
func (p *Principal) role() string { return p.Role(p.Project) }

func (p *Principal) String() string {
	if p == nil {
		return "nobody"
	}
	return p.Kind + " " + p.Name
}

type principalKey struct{}

func withPrincipal(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// person is who a request's context belongs to; nil: nobody.
func person(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}

// authenticate finds out who a request of the public API comes from: a bearer token, or a session's cookie.
func (s *server) authenticate(r *http.Request) (*Principal, error) {
	project := projectOf(r.Context())
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.bearer(r.Context(), bearer, project)
	}
	if text := accounts.CookieText(r, accounts.SessionCookieName); text != "" {
		who, err := s.Accounts.Session(r.Context(), text)
		if err != nil {
			return nil, err
		}
		return about(who, text, project)
	}
	return nil, wire.NewProblem(http.StatusUnauthorized, wire.CodeUnauthorized, "a token is needed").
		WithNext("set OPENMIGRATE_TOKEN, or run 'openmigrate login'")
}

func (s *server) bearer(ctx context.Context, text, project string) (*Principal, error) {
	who, err := s.Accounts.Bearer(ctx, text)
	if err != nil {
		return nil, err
	}
	return about(who, text, project)
}

// about chooses the project that a request is about: the one that it names, else the token's own, else the default one.
func about(who *accounts.Principal, credential, project string) (*Principal, error) {
	if project == "" {
		if project = who.Project; project == "" || project == accounts.AllProjects {
			project = catalog.DefaultProject
		}
	}
	p := &Principal{Principal: who, Project: project, secret: sealSecret(credential)}
	if p.role() == "" {
		return nil, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no project %.64q", project).WithNext("name one of yours: header " + wire.HeaderProject + ", or ?project=")
	}
	return p, nil
}

// may refuses what the role, or the token's scopes, do not allow.
func (p *Principal) may(o *op) error {
	project := p.Project
	switch {
	case o.id == "whoami": // whoever has credentials may know whose they are
		return nil
	case access[o.id] == masters:
		project = accounts.AllProjects
	}
	return p.Check(project, roleOf[access[o.id]], o.tag, o.method != http.MethodGet)
}

type projectKey struct{}

// projectOf is the project that a request names; empty: none.
func projectOf(ctx context.Context) string {
	name, _ := ctx.Value(projectKey{}).(string)
	return name
}

// named takes the name of the project out of a request: a header, or a query parameter for those who cannot set headers.
func named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		project := r.Header.Get(wire.HeaderProject)
		if strings.Contains(r.URL.RawQuery, "project=") {
			q := r.URL.Query()
			if list, ok := q["project"]; ok {
				project = list[0]
				q.Del("project")
				u := *r.URL
				u.RawQuery = q.Encode()
				r = r.Clone(r.Context())
				r.URL = &u
			}
		}
		if len(project) > maxRefText {
			writeProblem(w, badField("project", "the project's name is too long"))
			return
		}
		if project != "" {
			r = r.WithContext(context.WithValue(r.Context(), projectKey{}, project))
		}
		next.ServeHTTP(w, r)
	})
}
