package accounts

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/wire"
)

// Roles, each of which includes those before it.
const (
	RoleViewer   = "viewer"   // reads
	RoleOperator = "operator" // changes machines and restpoints, restores, launches
	RoleAdmin    = "admin"    // users, tokens, enrolment, staging
)

var roles = []string{RoleViewer, RoleOperator, RoleAdmin}

// AllProjects in place of a project means each, and what belongs to none: users, audit, the master itself.
const AllProjects = "*"

// maxRoles is how many projects a user may have roles in.
const maxRoles = 256

// May reports whether a role includes another.
func May(role, needed string) bool {
	return slices.Contains(roles, needed) && slices.Index(roles, role) >= slices.Index(roles, needed)
}

// lesser is the weaker of two roles; one that does not exist is the weakest.
func lesser(a, b string) string {
	if slices.Index(roles, a) < slices.Index(roles, b) {
		return a
	}
	return b
}

// roleIn is the role in a project that a set of roles gives; empty: none.
func roleIn(of map[string]string, project string) string {
	role := of[AllProjects]
	if own, ok := of[project]; ok && !May(role, own) {
		role = own
	}
	if !slices.Contains(roles, role) {
		return ""
	}
	return role
}

// projectName is what projects are called.
var projectName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func checkRole(field, role string) error {
	if !slices.Contains(roles, role) {
		return bad(field, "role %.40q: want %s", role, strings.Join(roles, ", "))
	}
	return nil
}

func checkRoles(of map[string]string) error {
	if len(of) > maxRoles {
		return bad("roles", "%d roles, at most %d", len(of), maxRoles)
	}
	for _, project := range slices.Sorted(maps.Keys(of)) {
		if project != AllProjects && !projectName.MatchString(project) {
			return bad("roles", "project %.80q: want a project's name, or %s for all", project, AllProjects)
		}
		if err := checkRole("roles", of[project]); err != nil {
			return err
		}
	}
	return nil
}

// Scopes narrow what a token may do below its role: RESOURCE, or RESOURCE:read for what changes nothing. A resource is the tag of
// operations in the OpenAPI document, such as machines.
var scopeName = regexp.MustCompile(`^[a-z][a-z-]{0,39}(:read)?$`)

// maxScopes is how many a token may have.
const maxScopes = 64

func checkScopes(scopes []string) error {
	if len(scopes) > maxScopes {
		return bad("scopes", "%d scopes, at most %d", len(scopes), maxScopes)
	}
	for _, s := range scopes {
		if !scopeName.MatchString(s) {
			return bad("scopes", "scope %.80q: want RESOURCE or RESOURCE:read, such as machines:read", s)
		}
	}
	return nil
}

// inScope reports whether scopes include an operation; no scopes include all.
func inScope(scopes []string, resource string, write bool) bool {
	return len(scopes) == 0 || slices.Contains(scopes, resource) || !write && slices.Contains(scopes, resource+":read")
}

func forbidden(format string, args ...any) error {
	return wire.NewProblem(403, wire.CodeForbidden, format, args...)
}
