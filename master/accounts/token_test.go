package accounts

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

func TestTokens(t *testing.T) {
	w := newWorld(t)
	text, p := w.token(nil, Token{Project: "default", Name: "ann's", Role: RoleOperator}, time.Hour)
	if p.Name != "ann's" || p.Role("default") != RoleOperator || p.Role("other") != "" || p.Role(AllProjects) != "" || p.Holder() != "token-"+p.ID {
		t.Fatalf("%+v", p)
	}
	for name, s := range map[string]string{
		"empty": "", "prefix": "omt_", "unknown": "omt_0000000000000000_00", "cut": text[:len(text)-1], "longer": text + "0",
		"id only": "omt_" + p.ID + "_", "huge": "omt_" + strings.Repeat("a", 1<<16) + "_b",
	} {
		_, err := w.Bearer(t.Context(), s)
		if !wire.HasCode(err, wire.CodeUnauthorized) || len(s) > 8 && strings.Contains(err.Error(), s) {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	list, err := w.Tokens(t.Context(), "default")
	if err != nil || len(list) != 1 || list[0].Secret != nil || list[0].Used.IsZero() {
		t.Errorf("list %+v, %v", list, err)
	}
	if list, err := w.Tokens(t.Context(), "other"); err != nil || len(list) != 0 {
		t.Errorf("list %+v, %v", list, err)
	}
	w.clock.Advance(time.Hour + time.Second)
	_, err = w.Bearer(t.Context(), text)
	wantCode(t, "expired", err, wire.CodeUnauthorized)

	text, p = w.token(nil, Token{Project: "default", Role: RoleAdmin}, 0)
	w.clock.Advance(20 * 365 * 24 * time.Hour)
	if _, err = w.Bearer(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if err := w.RemoveToken(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.Bearer(t.Context(), text)
	wantCode(t, "removed", err, wire.CodeUnauthorized)
	wantCode(t, "removed twice", w.RemoveToken(t.Context(), p.ID), wire.CodeNotFound)
	for name, bad := range map[string]Token{
		"role": {Project: "default", Name: "eve", Role: "king"}, "no name": {Project: "default", Role: RoleViewer}, "project": {Name: "eve", Project: "a/b", Role: RoleViewer},
		"long name": {Project: "default", Name: strings.Repeat("a", 10000), Role: RoleViewer}, "scope": {Project: "default", Name: "eve", Role: RoleViewer, Scopes: []string{"machines:all"}},
		"scopes": {Project: "default", Name: "eve", Role: RoleViewer, Scopes: make([]string, maxScopes+1)},
	} {
		_, _, err := w.NewToken(t.Context(), nil, bad, 0)
		wantCode(t, name, err, wire.CodeBadRequest)
	}
}

// TestOldTokens: a row as it was written before tokens had owners and scopes.
func TestOldTokens(t *testing.T) {
	w := newWorld(t)
	const text = "omt_00112233445566aa_0123456789012345678901234567890123456789"
	row := fmt.Sprintf(`{"id":"00112233445566aa","name":"admin of the data directory","project":"default","role":"admin","created":"2026-02-01T00:00:00Z","secret":"%s"}`,
		"xUyzwGdl++Xl+POgxDvv2HzKE7n6jsEY+XcXaZIQcpA=")
	if err := w.db.Update(t.Context(), func(tx store.Writer) error { return tx.Put("api_tokens", []byte("00112233445566aa"), []byte(row)) }); err != nil {
		t.Fatal(err)
	}
	p, err := w.Bearer(t.Context(), text)
	if err != nil || p.Check("default", RoleAdmin, "tokens", true) != nil {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestTokensNeverExceed: a token is worth what its owner is worth now, and gives away only what it has.
func TestTokensNeverExceed(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	bob := w.user("bob", map[string]string{"default": RoleOperator, "b": RoleViewer})
	browser := w.session(w.login("bob", good))
	for _, t2 := range []Token{{Project: "default", Role: RoleAdmin}, {Project: "b", Role: RoleOperator}, {Project: "c", Role: RoleViewer}, {Project: AllProjects, Role: RoleViewer}} {
		t2.Name = "too much"
		_, _, err := w.NewToken(t.Context(), browser, t2, 0)
		wantCode(t, t2.Project+" "+t2.Role, err, wire.CodeForbidden)
	}
	text, tool := w.token(browser, Token{Project: "default", Role: RoleOperator, Scopes: []string{"machines:read", "launches"}}, 0)
	for _, c := range []struct {
		resource string
		write    bool
		ok       bool
	}{{"machines", false, true}, {"machines", true, false}, {"launches", true, true}, {"launches", false, true}, {"restpoints", false, false}, {"", false, false}} {
		err := tool.Check("default", RoleViewer, c.resource, c.write)
		if (err == nil) != c.ok || err != nil && !wire.HasCode(err, wire.CodeForbidden) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for name, t2 := range map[string]Token{
		"no scopes": {Project: "default", Role: RoleViewer}, "another scope": {Project: "default", Role: RoleViewer, Scopes: []string{"tokens"}},
		"a wider scope": {Project: "default", Role: RoleViewer, Scopes: []string{"machines"}},
	} {
		t2.Name = name
		if _, _, err := w.NewToken(t.Context(), tool, t2, 0); !wire.HasCode(err, wire.CodeForbidden) && !wire.HasCode(err, wire.CodeBadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	child, _ := w.token(tool, Token{Project: "default", Role: RoleViewer, Scopes: []string{"machines:read"}}, 0)

	roles := func(of map[string]string) {
		t.Helper()
		if _, err := w.ChangeUser(t.Context(), bob.ID, 0, UserChange{Roles: of}); err != nil {
			t.Fatal(err)
		}
	}
	roles(map[string]string{"default": RoleViewer})
	if tool, err := w.Bearer(t.Context(), text); err != nil || tool.Role("default") != RoleViewer {
		t.Errorf("after its owner became a viewer: %+v, %v", tool, err)
	}
	roles(map[string]string{"b": RoleAdmin})
	if tool, err := w.Bearer(t.Context(), text); err != nil || tool.Role("default") != "" || tool.Role("b") != "" {
		t.Errorf("after its owner left the project: %+v, %v", tool, err)
	}
	roles(map[string]string{"default": RoleAdmin})
	if tool, err := w.Bearer(t.Context(), text); err != nil || tool.Role("default") != RoleOperator {
		t.Errorf("after its owner became an admin: %+v, %v", tool, err)
	}
	if err := w.RemoveUser(t.Context(), bob.ID, 0); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{text, child} {
		_, err := w.Bearer(t.Context(), text)
		wantCode(t, "after its owner was removed", err, wire.CodeUnauthorized)
	}
}

func TestExpiredTokensArePruned(t *testing.T) {
	w := newWorld(t)
	make := func(valid time.Duration) { w.token(nil, Token{Project: "default", Role: RoleViewer}, valid) }
	rows := func() (n int) {
		list, err := w.Tokens(t.Context(), AllProjects)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	make(24 * time.Hour)
	make(0)
	w.clock.Advance(24*time.Hour + expiredKept - time.Second)
	make(time.Hour)
	if n := rows(); n != 3 {
		t.Errorf("%d rows while the old token is worth seeing, want 3", n)
	}
	w.clock.Advance(time.Second)
	make(time.Hour)
	if n := rows(); n != 3 {
		t.Errorf("%d rows after the old one went, want 3", n)
	}
}
