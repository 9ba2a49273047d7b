package accounts

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

func TestFirstAdmin(t *testing.T) {
	w := newWorld(t)
	old, _, ok, err := w.FirstLink(t.Context())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	text, l, ok, err := w.FirstLink(t.Context())
	if err != nil || !ok || l.Kind != LinkFirst {
		t.Fatal(l, ok, err)
	}
	_, err = w.UseLink(t.Context(), old, "ann", good)
	wantCode(t, "replaced link", err, wire.CodeTokenUsed)
	_, err = w.UseLink(t.Context(), text[:len(text)-1]+"x", "ann", good)
	wantCode(t, "wrong secret", err, wire.CodeTokenUsed)
	_, err = w.UseLink(t.Context(), text, "ann", "short")
	wantCode(t, "short password", err, wire.CodeBadRequest)
	_, err = w.UseLink(t.Context(), text, "\u202eann", good)
	wantCode(t, "name from right to left", err, wire.CodeBadRequest)

	// Of many who spend it at once one becomes the admin.
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = w.UseLink(context.WithoutCancel(t.Context()), text, fmt.Sprintf("ann%d", i), good)
		})
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else if !wire.HasCode(err, wire.CodeTokenUsed) {
			t.Errorf("%v", err)
		}
	}
	users, err := w.Users(t.Context(), "", 10)
	if made != 1 || err != nil || len(users) != 1 || users[0].Roles[AllProjects] != RoleAdmin || !users[0].Password {
		t.Fatalf("%d made, users %+v, %v", made, users, err)
	}
	if _, _, ok, err = w.FirstLink(t.Context()); ok || err != nil {
		t.Errorf("a link although there is an admin: %v, %v", ok, err)
	}
	if p := w.session(w.login(users[0].Name, good)); p.Role("any") != RoleAdmin || p.Role(AllProjects) != RoleAdmin {
		t.Errorf("%+v", p)
	}
}

func TestLinksExpire(t *testing.T) {
	w := newWorld(t)
	text, _, _, err := w.FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(LinkValid + time.Second)
	_, err = w.UseLink(t.Context(), text, "ann", good)
	wantCode(t, "old link", err, wire.CodeTokenUsed)
	if text, _, _, err = w.FirstLink(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if _, err := w.UseLink(t.Context(), text, "Ann", good); err != nil {
		t.Error(err)
	}
	u := w.user("bob", nil)
	text, _, err = w.NewLink(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	if l, name, err := w.Link(t.Context(), text); err != nil || l.Kind != LinkPassword || name != "bob" {
		t.Errorf("%+v, %q, %v", l, name, err)
	}
	if err := w.RemoveUser(t.Context(), u.ID, 0); err != nil {
		t.Fatal(err)
	}
	_, err = w.UseLink(t.Context(), text, "", good)
	wantCode(t, "link of a removed user", err, wire.CodeTokenUsed)
}

func TestLoginRefuses(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	u := w.user("bob", map[string]string{"default": RoleViewer})
	if _, err := w.CreateUser(t.Context(), "invited", "", nil); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]Attempt{
		"wrong password":  {Name: "bob", Password: another},
		"no password":     {Name: "bob"},
		"unknown name":    {Name: "carl", Password: good},
		"no name":         {Password: good},
		"invited only":    {Name: "invited", Password: ""},
		"huge name":       {Name: strings.Repeat("a", 1<<20), Password: good},
		"huge password":   {Name: "bob", Password: strings.Repeat("a", 1<<20)},
		"name with slash": {Name: "bob/../ann", Password: good},
		"case":            {Name: "bob", Password: strings.ToUpper(good)},
	} {
		a.Address = "198.51.100." + fmt.Sprint(len(name)) + ":1"
		_, err := w.Login(t.Context(), a)
		wantCode(t, name, err, wire.CodeUnauthorized)
		if err != nil && len(err.Error()) > 300 {
			t.Errorf("%s: the refusal has %d bytes", name, len(err.Error()))
		}
	}
	if l := w.login("BOB", good); l.User.Name != "bob" || l.User.LastLogin.IsZero() {
		t.Errorf("%+v", l.User)
	}
	yes := true
	if _, err := w.ChangeUser(t.Context(), u.ID, 0, UserChange{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	_, err := w.Login(t.Context(), Attempt{Name: "bob", Password: good, Address: "192.0.2.1:1"})
	wantCode(t, "disabled", err, wire.CodeForbidden)
}

// TestUnknownNamesTakeAsLong: else names could be found by the clock.
func TestUnknownNamesTakeAsLong(t *testing.T) {
	w := newWorld(t)
	w.hash = HashParams{Time: 2, Memory: 4 << 10, Threads: 1}
	w.admin("ann")
	median := func(name string) time.Duration {
		var took []time.Duration
		for i := range 5 {
			begin := time.Now()
			_, err := w.Login(t.Context(), Attempt{Name: name, Password: another, Address: fmt.Sprintf("192.0.2.%d:1", i)})
			took = append(took, time.Since(begin))
			wantCode(t, name, err, wire.CodeUnauthorized)
		}
		slices.Sort(took)
		return took[2]
	}
	if known, unknown := median("ann"), median("nobody"); unknown < known/4 {
		t.Errorf("an unknown name is refused in %v, a known one in %v", unknown, known)
	}
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	u := w.user("bob", map[string]string{"default": RoleOperator})
	over := func(what string, l *Login) {
		t.Helper()
		_, err := w.Session(t.Context(), l.Cookie)
		wantCode(t, what, err, wire.CodeUnauthorized)
	}

	idle := w.login("bob", good)
	w.clock.Advance(DefaultIdle - time.Second)
	w.session(idle) // use makes it last
	w.clock.Advance(DefaultIdle - time.Second)
	w.session(idle)
	w.clock.Advance(DefaultIdle)
	over("idle", idle)

	long := w.login("bob", good)
	for range 24 * 2 {
		w.clock.Advance(DefaultSession / (24 * 2))
		if _, err := w.Session(t.Context(), long.Cookie); w.clock.Now().Before(long.Session.Expires) != (err == nil) {
			t.Fatalf("at %v: %v", w.clock.Now(), err)
		}
	}
	over("a day old", long)

	out, other := w.login("bob", good), w.login("bob", good)
	w.restart() // sessions outlive the master
	w.session(out)
	if err := w.EndSession(t.Context(), u.ID, out.Session.ID); err != nil {
		t.Fatal(err)
	}
	over("logged out", out)
	w.session(other)
	wantCode(t, "twice", w.EndSession(t.Context(), u.ID, out.Session.ID), wire.CodeNotFound)
	ann := w.login("ann", good)
	wantCode(t, "somebody else's", w.EndSession(t.Context(), u.ID, ann.Session.ID), wire.CodeNotFound)

	mine := w.login("bob", good)
	p := w.session(mine)
	_, err := w.ChangePassword(t.Context(), p, another, another, "192.0.2.1:1")
	wantCode(t, "old password wrong", err, wire.CodeUnauthorized)
	if _, err := w.ChangePassword(t.Context(), p, good, another, "192.0.2.1:1"); err != nil {
		t.Fatal(err)
	}
	over("before the password was changed", other)
	w.session(mine) // who changed it goes on
	_, err = w.Login(t.Context(), Attempt{Name: "bob", Password: good, Address: "192.0.2.1:1"})
	wantCode(t, "old password", err, wire.CodeUnauthorized)
	text, _, err := w.NewLink(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.UseLink(t.Context(), text, "", good); err != nil {
		t.Fatal(err)
	}
	over("before the password was set by a link", mine)
	_, err = w.UseLink(t.Context(), text, "", good)
	wantCode(t, "link used twice", err, wire.CodeTokenUsed)

	yes, no := true, false
	dis := w.login("bob", good)
	for _, disabled := range []*bool{&yes, &no} {
		if _, err := w.ChangeUser(t.Context(), u.ID, 0, UserChange{Disabled: disabled}); err != nil {
			t.Fatal(err)
		}
		over("of who was disabled", dis)
	}
	gone := w.login("bob", good)
	if err := w.RemoveUser(t.Context(), u.ID, 0); err != nil {
		t.Fatal(err)
	}
	over("removed", gone)
	for name, s := range map[string]string{
		"empty": "", "prefix": "oms_", "huge": "oms_" + strings.Repeat("a_", 1<<16), "cut": ann.Cookie[:len(ann.Cookie)-1], "longer": ann.Cookie + "0",
		"path": "oms_../" + strings.TrimPrefix(ann.Cookie, "oms_"),
	} {
		_, err := w.Session(t.Context(), s)
		wantCode(t, name, err, wire.CodeUnauthorized)
	}
	w.session(ann)
}

func TestSessionsOfAUserAreBounded(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	var all []*Login
	for range maxSessions + 5 {
		w.clock.Advance(time.Second)
		all = append(all, w.login("ann", good))
	}
	list, err := w.Sessions(t.Context(), all[0].User.ID)
	if err != nil || len(list) != maxSessions || list[0].ID != all[len(all)-1].Session.ID {
		t.Errorf("%d sessions, %v", len(list), err)
	}
	_, err = w.Session(t.Context(), all[0].Cookie)
	wantCode(t, "the oldest", err, wire.CodeUnauthorized)
	w.clock.Advance(DefaultSession)
	w.login("ann", good)
	n := 0
	if err := w.db.View(t.Context(), func(tx store.Reader) error {
		return tableSessions.Scan(tx, "", "", func(string, *sessionRow) error { n++; return nil })
	}); err != nil || n != 1 {
		t.Errorf("%d rows, %v: ended sessions stay", n, err)
	}
}

// TestTornOut: who loses his rights loses them in the middle of a request.
func TestTornOut(t *testing.T) {
	tests := map[string]func(w *world, u *User, l *Login, token string) error{
		"session ended": func(w *world, u *User, l *Login, _ string) error {
			return w.EndSession(w.t.Context(), u.ID, l.Session.ID)
		},
		"sessions ended": func(w *world, u *User, _ *Login, _ string) error { return w.EndSessions(w.t.Context(), u.ID) },
		"user removed":   func(w *world, u *User, _ *Login, _ string) error { return w.RemoveUser(w.t.Context(), u.ID, 0) },
		"password changed": func(w *world, u *User, _ *Login, _ string) error {
			_, err := w.setPassword(w.t.Context(), u.ID, another, "", nil)
			return err
		},
		"roles changed": func(w *world, u *User, _ *Login, _ string) error {
			_, err := w.ChangeUser(w.t.Context(), u.ID, 0, UserChange{Roles: map[string]string{}})
			return err
		},
		"token removed": func(w *world, _ *User, _ *Login, token string) error { return w.RemoveToken(w.t.Context(), token) },
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.admin("ann")
			u := w.user("bob", map[string]string{"default": RoleOperator})
			l := w.login("bob", good)
			browser := w.session(l)
			_, tool := w.token(browser, Token{Project: "default", Role: RoleViewer}, 0)
			of, annDone, err := w.Admit(t.Context(), w.session(w.login("ann", good)))
			if err != nil {
				t.Fatal(err)
			}
			defer annDone()
			who := browser
			if strings.HasPrefix(name, "token") {
				who = tool
			}
			ctx, done, err := w.Admit(t.Context(), who)
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			if ctx.Err() != nil {
				t.Fatal("ended before")
			}
			if err := end(w, u, l, tool.ID); err != nil {
				t.Fatal(err)
			}
			wantCode(t, "cause", torn(t, ctx), wire.CodeUnauthorized)
			if name != "roles changed" {
				_, _, err = w.Admit(t.Context(), who)
				wantCode(t, "admitted again", err, wire.CodeUnauthorized)
			}
			if of.Err() != nil {
				t.Error("somebody else was torn out, too")
			}
		})
	}
}

// TestStreamsExpire uses the real clock: an idle session, and a token that ends, tear what they have open.
func TestStreamsExpire(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	var err error
	if w.Service, err = Open(t.Context(), w.db, clock.Real{}, &Options{Hash: quick, Idle: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	_, short := w.token(nil, Token{Project: "default", Role: RoleViewer}, 2*time.Second)
	l := w.login("ann", good)
	open := map[string]context.Context{}
	for name, p := range map[string]*Principal{"session": w.session(l), "token": short} {
		ctx, done, err := w.Admit(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		open[name] = ctx
	}
	for name, ctx := range open {
		wantCode(t, name, torn(t, ctx), wire.CodeUnauthorized)
	}
}

func TestSecretsAreNotStored(t *testing.T) {
	w := newWorld(t)
	first, _, _, err := w.FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u := w.admin("ann")
	link, _, err := w.NewLink(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	l := w.login("ann", good)
	token, _ := w.token(nil, Token{Project: "default", Role: RoleViewer}, 0)
	secrets := []string{good, l.Device}
	for _, text := range []string{first, link, l.Cookie, token} {
		secrets = append(secrets, text[strings.LastIndexByte(text, '_')+1:])
	}
	rows := 0
	err = w.db.View(t.Context(), func(tx store.Reader) error {
		for _, table := range []string{tableUsers.Name, tableNames.Name, tableSubjects.Name, tableSessions.Name, tableLinks.Name, tableTokens.Name, tableSecrets.Name} {
			if err := tx.Scan(table, nil, nil, func(k, v []byte) error {
				rows++
				for i, s := range secrets {
					if strings.Contains(string(k)+string(v), s) {
						t.Errorf("%s holds secret %d", table, i)
					}
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || rows < 6 {
		t.Fatal(rows, err)
	}
}
