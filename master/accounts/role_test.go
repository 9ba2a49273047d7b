package accounts

import (
	"testing"

	"github.com/openmigrate/openmigrate/wire"
)

func TestMay(t *testing.T) {
	for i, has := range roles {
		for j, needed := range roles {
			if May(has, needed) != (i >= j) {
				t.Errorf("May(%s, %s) = %v", has, needed, i < j)
			}
			if want := roles[min(i, j)]; lesser(has, needed) != want {
				t.Errorf("the lesser of %s and %s is %s", has, needed, lesser(has, needed))
			}
		}
	}
	if May("king", RoleViewer) || May("", "") || May(RoleAdmin, "king") || lesser("", RoleAdmin) != "" {
		t.Error("a role that does not exist may something")
	}
}

func TestRolesPerProject(t *testing.T) {
	p := &Principal{Kind: KindUser, Name: "ann", roles: map[string]string{"a": RoleOperator, AllProjects: RoleViewer, "c": "king"}}
	for project, want := range map[string]string{"a": RoleOperator, "b": RoleViewer, AllProjects: RoleViewer} {
		if p.Role(project) != want {
			t.Errorf("%s in %s, want %s", p.Role(project), project, want)
		}
	}
	delete(p.roles, AllProjects)
	if p.Role("b") != "" || p.Role("c") != "" || p.Role("") != "" {
		t.Error("a role out of nothing")
	}
	if in := p.In([]string{"a", "b"}); len(in) != 1 || in[0] != "a" {
		t.Error(in)
	}
	wantCode(t, "another project", p.Check("b", RoleViewer, "machines", false), wire.CodeNotFound)
	wantCode(t, "more than the role", p.Check("a", RoleAdmin, "tokens", true), wire.CodeForbidden)
	wantCode(t, "the master itself", p.Check(AllProjects, RoleViewer, "audit", false), wire.CodeForbidden)
	if err := p.Check("a", RoleViewer, "machines", false); err != nil {
		t.Error(err)
	}
}

func TestUsers(t *testing.T) {
	w := newWorld(t)
	ann := w.admin("ann")
	for _, name := range []string{"", "Bob Smith", "-bob", "bob\n", "bоb", "a/b", string(make([]byte, 65))} { // the second "bоb" has a Cyrillic letter
		_, err := w.CreateUser(t.Context(), name, "", nil)
		wantCode(t, name, err, wire.CodeBadRequest)
	}
	_, err := w.CreateUser(t.Context(), "ANN", "", nil)
	wantCode(t, "taken", err, wire.CodeConflict)
	_, err = w.CreateUser(t.Context(), "bob", "", map[string]string{"default": "king"})
	wantCode(t, "role", err, wire.CodeBadRequest)
	_, err = w.CreateUser(t.Context(), "bob", "a b@c", nil)
	wantCode(t, "email", err, wire.CodeBadRequest)
	for _, name := range []string{"dora", "bob", "carl"} {
		w.user(name, map[string]string{"default": RoleViewer})
	}
	first, err := w.Users(t.Context(), "", 2)
	if err != nil || len(first) != 2 || first[0].Name != "ann" || first[1].Name != "bob" {
		t.Fatalf("%+v, %v", first, err)
	}
	rest, err := w.Users(t.Context(), "bob", 10)
	if err != nil || len(rest) != 2 || rest[0].Name != "carl" || rest[1].Name != "dora" {
		t.Fatalf("%+v, %v", rest, err)
	}

	bob, mail := first[1], "bob@example.com"
	changed, err := w.ChangeUser(t.Context(), bob.ID, bob.Revision, UserChange{Email: &mail})
	if err != nil || changed.Email != mail || changed.Revision == bob.Revision || changed.Roles["default"] != RoleViewer {
		t.Errorf("%+v, %v", changed, err)
	}
	_, err = w.ChangeUser(t.Context(), bob.ID, bob.Revision, UserChange{Email: &mail})
	wantCode(t, "stale", err, wire.CodeStale)
	wantCode(t, "stale removal", w.RemoveUser(t.Context(), bob.ID, bob.Revision), wire.CodeStale)

	// The last admin stays.
	yes := true
	_, err = w.ChangeUser(t.Context(), ann.ID, 0, UserChange{Roles: map[string]string{"default": RoleAdmin}})
	wantCode(t, "demoted", err, wire.CodeConflict)
	_, err = w.ChangeUser(t.Context(), ann.ID, 0, UserChange{Disabled: &yes})
	wantCode(t, "disabled", err, wire.CodeConflict)
	wantCode(t, "removed", w.RemoveUser(t.Context(), ann.ID, 0), wire.CodeConflict)
	if _, err := w.CreateUser(t.Context(), "eve", "", map[string]string{AllProjects: RoleAdmin}); err != nil { // cannot log in yet
		t.Fatal(err)
	}
	wantCode(t, "removed beside one who cannot log in", w.RemoveUser(t.Context(), ann.ID, 0), wire.CodeConflict)
	w.session(w.login("ann", good))
	w.admin("zoe")
	if err := w.RemoveUser(t.Context(), ann.ID, 0); err != nil {
		t.Error(err)
	}
	_, err = w.User(t.Context(), ann.ID)
	wantCode(t, "removed", err, wire.CodeNotFound)
}
