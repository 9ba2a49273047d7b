package accounts

import (
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// Kinds of principals.
const (
	KindUser  = "user"  // a person's browser, with a session
	KindToken = "token" // a tool, with an API token
)

// Principal is somebody who has shown who he is, at that moment: ask again for each request.
type Principal struct {
	Kind    string
	ID      string    // of the session or the token
	User    string    // the user's id; empty: a token that is nobody's
	Name    string    // the user's, or the token's
	Project string    // a token's; empty for users
	Expires time.Time // zero: never
	roles   map[string]string
	scopes  []string
}

// Role is what he is in a project; empty: nothing.
func (p *Principal) Role(project string) string { return roleIn(p.roles, project) }

// Holder is the name under which he holds jobs. It outlives a session.
func (p *Principal) Holder() string {
	if p.Kind == KindToken {
		return "token-" + p.ID
	}
	return p.User
}

// Scopes are those of a token; empty: all that its role may.
func (p *Principal) Scopes() []string { return slices.Clone(p.scopes) }

// In lists those of the projects that he has a role in.
func (p *Principal) In(projects []string) []string {
	return slices.DeleteFunc(slices.Clone(projects), func(name string) bool { return p.Role(name) == "" })
}

// Check says whether he may do an operation that needs a role in a project: CodeForbidden, or, when he has no role there at
// all, CodeNotFound, as if there were no such project. resource and write are for scopes (see inScope).
func (p *Principal) Check(project, role, resource string, write bool) error {
	has := p.Role(project)
	switch {
	case has == "" && project == AllProjects:
		return forbidden("%s %q has no role in all projects; this needs %s there", p.Kind, p.Name, role)
	case has == "":
		return notFound("project", project)
	case !May(has, role):
		return forbidden("the %s %q has the role %s; this needs %s", p.Kind, p.Name, has, role)
	case !inScope(p.scopes, resource, write):
		return wire.NewProblem(403, wire.CodeForbidden, "the token %q is not for %s", p.Name, scope(resource, write)).
			WithNext("make a token with the scope " + scope(resource, write))
	}
	return nil
}

func scope(resource string, write bool) string {
	if write {
		return resource
	}
	return resource + ":read"
}
