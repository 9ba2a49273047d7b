package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/oidc/optest"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const good = "seven green boats sail"

// site is a master with nothing but logins.
type site struct {
	*httptest.Server
	t        *testing.T
	accounts *accounts.Service

	mu       sync.Mutex
	provider *Provider     // guarded by mu
	last     *http.Request // guarded by mu
	logins   atomic.Int64
}

func newSite(t *testing.T) *site {
	t.Helper()
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{t: t}
	if s.accounts, err = accounts.Open(t.Context(), db, clock.Real{}, &accounts.Options{Hash: accounts.HashParams{Time: 1, Memory: 64, Threads: 1}}); err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.Client().CloseIdleConnections()
		s.Close()
	})
	return s
}

func (s *site) callback() string { return s.URL + CallbackPath }

func (s *site) set(conf Config) *Provider {
	s.t.Helper()
	p, err := New(conf)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.provider = p
	return p
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	p := s.provider
	if r.URL.Path == CallbackPath {
		s.last = r.Clone(r.Context())
	}
	s.mu.Unlock()
	fail := func(err error) {
		var q *wire.Problem
		if !errors.As(err, &q) {
			q = wire.NewProblem(500, wire.CodeInternal, "%v", err)
		}
		w.WriteHeader(q.Status)
		_ = json.NewEncoder(w).Encode(q)
	}
	switch r.URL.Path {
	case BeginPath, CallbackPath:
		NewHandler(p, s.accounts, func(context.Context, *accounts.Login, string) { s.logins.Add(1) }, slog.New(slog.NewTextHandler(io.Discard, nil))).ServeHTTP(w, r)
	case "/", "/machines":
		who, err := s.accounts.Session(r.Context(), accounts.CookieText(r, accounts.SessionCookieName))
		if err != nil {
			fail(err)
			return
		}
		u, err := s.accounts.User(r.Context(), who.User)
		if err != nil {
			fail(err)
			return
		}
		_ = json.NewEncoder(w).Encode(u)
	}
}

func (s *site) browser() *http.Client { return optest.Browser(s.t, s.Client().Transport) }

// user reads who is logged in.
func user(t *testing.T, resp *http.Response) *accounts.User {
	t.Helper()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d: %s", resp.Request.URL, resp.StatusCode, page(t, resp))
	}
	u := &accounts.User{}
	if err := json.NewDecoder(resp.Body).Decode(u); err != nil {
		t.Fatal(err)
	}
	return u
}

func page(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRealProvider logs in at a provider that we did not write.
func TestRealProvider(t *testing.T) {
	s := newSite(t)
	issuer := optest.Start(t, s.callback(),
		optest.User{ID: "1", Username: "ann", Email: "ann@example.com", EmailVerified: true},
		optest.User{ID: "2", Username: "bob", Email: "root@example.com"},
		optest.User{ID: "3", Username: "Evil <script>", Email: "x@example.com", EmailVerified: true})
	conf := Config{Issuer: issuer, ClientID: optest.ClientID, ClientSecret: optest.ClientSecret, RedirectURL: s.callback(), Scopes: []string{"custom_scope"},
		Claim: "custom_claim.client", Roles: map[string]Roles{"web": {"default": accounts.RoleOperator, "lab": accounts.RoleViewer}}}
	s.set(conf)

	// A local admin has the name and the address that somebody has at the provider.
	first, _, _, err := s.accounts.FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	local, err := s.accounts.UseLink(t.Context(), first, "ann", good)
	if err != nil {
		t.Fatal(err)
	}
	mail := "ann@example.com"
	if _, err := s.accounts.ChangeUser(t.Context(), local.ID, 0, accounts.UserChange{Email: &mail}); err != nil {
		t.Fatal(err)
	}

	browser := s.browser()
	resp := optest.LogIn(t, browser, s.URL+BeginPath+"?return=/machines", "ann", optest.Password)
	ann := user(t, resp)
	if ann.ID == local.ID || ann.Name == "ann" || !strings.HasPrefix(ann.Name, "ann+") || ann.Email != mail || ann.Roles["default"] != accounts.RoleOperator ||
		ann.Roles["lab"] != accounts.RoleViewer || len(ann.Roles) != 2 || !ann.Subject || resp.Request.URL.Path != "/machines" {
		t.Errorf("%+v at %s", ann, resp.Request.URL)
	}
	if again := user(t, optest.LogIn(t, s.browser(), s.URL+BeginPath, "ann", optest.Password)); again.ID != ann.ID {
		t.Errorf("the second time somebody else: %+v", again)
	}
	bob := user(t, optest.LogIn(t, s.browser(), s.URL+BeginPath+"?return=//evil.example.com/", "bob", optest.Password))
	if bob.Name != "bob" || bob.Email != "" {
		t.Errorf("an address that is not verified is shown: %+v", bob)
	}
	if evil := user(t, optest.LogIn(t, s.browser(), s.URL+BeginPath, "Evil <script>", optest.Password)); !strings.HasPrefix(evil.Name, "evilscript+") {
		t.Errorf("%+v", evil)
	}
	if resp := optest.LogIn(t, s.browser(), s.URL+BeginPath, "ann", "wrong"); resp.Request.URL.Host == strings.TrimPrefix(s.URL, "https://") {
		t.Errorf("a wrong password leads to %s", resp.Request.URL)
	}

	if n := s.logins.Load(); n != 4 {
		t.Errorf("%d logins were told, want 4", n)
	}

	t.Run("an answer in another browser", func(t *testing.T) {
		s.mu.Lock()
		answer := s.last.URL.RequestURI()
		s.mu.Unlock()
		resp, err := s.browser().Get(s.URL + answer)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text := page(t, resp); resp.StatusCode != 401 || !strings.Contains(text, "not begun in this browser") {
			t.Errorf("%d, %s", resp.StatusCode, text)
		}
	})
	t.Run("a code without its verifier", func(t *testing.T) { s.stolenCode(t, conf) })
	t.Run("links bind", func(t *testing.T) { s.links(t) })
	t.Run("roles follow the claims", func(t *testing.T) {
		conf.Roles = map[string]Roles{"web": {"default": accounts.RoleViewer}}
		s.set(conf)
		if now := user(t, optest.LogIn(t, s.browser(), s.URL+BeginPath, "ann", optest.Password)); now.ID != ann.ID || now.Roles["default"] != accounts.RoleViewer || len(now.Roles) != 1 {
			t.Errorf("%+v", now)
		}
		conf.Roles = map[string]Roles{"other": {"default": accounts.RoleViewer}}
		s.set(conf)
		for _, name := range []string{"ann", "bob"} {
			if resp := optest.LogIn(t, s.browser(), s.URL+BeginPath, name, optest.Password); resp.StatusCode != 403 {
				t.Errorf("%s without a role: %d", name, resp.StatusCode)
			}
		}
	})
	t.Run("the wrong secret", func(t *testing.T) {
		conf.ClientSecret = "wrong"
		s.set(conf)
		resp := optest.LogIn(t, s.browser(), s.URL+BeginPath, "ann", optest.Password)
		if text := page(t, resp); resp.StatusCode != 401 || strings.Contains(text, "wrong") {
			t.Errorf("%d, %s", resp.StatusCode, text)
		}
	})
}

// stolenCode: somebody who saw a code (in a log, a history, a Referer) cannot use it: the provider wants the verifier, which is in the cookie.
func (s *site) stolenCode(t *testing.T, conf Config) {
	victim := s.browser()
	var stolen string
	victim.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == CallbackPath {
			stolen = r.URL.Query().Get("code")
			return http.ErrUseLastResponse
		}
		return nil
	}
	optest.LogIn(t, victim, s.URL+BeginPath, "ann", optest.Password)
	if stolen == "" {
		t.Fatal("no code")
	}
	p := s.set(conf)
	to, c, err := p.Begin(t.Context(), "/", "") // the thief begins a login of his own
	if err != nil {
		t.Fatal(err)
	}
	state := to[strings.Index(to, "state=")+6:]
	state, _, _ = strings.Cut(state, "&")
	if !strings.Contains(to, "code_challenge_method=S256") || !strings.Contains(to, "nonce=") {
		t.Errorf("%s", to)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/callback?code="+stolen+"&state="+state, nil)
	r.AddCookie(c)
	if a, err := p.Finish(t.Context(), r); !wire.HasCode(err, wire.CodeUnauthorized) || !strings.Contains(err.Error(), "did not take its code back") {
		t.Errorf("%+v, %v", a, err)
	}
}

// links: a user that an admin made is bound to a person by a one-time link, once.
func (s *site) links(t *testing.T) {
	invited, err := s.accounts.CreateUser(t.Context(), "carl", "", map[string]string{"default": accounts.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	link, _, err := s.accounts.NewLink(t.Context(), invited.ID)
	if err != nil {
		t.Fatal(err)
	}
	if resp := optest.LogIn(t, s.browser(), s.URL+BeginPath+"?link="+link, "bob", optest.Password); resp.StatusCode != 409 {
		t.Errorf("somebody who is a user already: %d", resp.StatusCode)
	}
	ext := accounts.External{Issuer: "https://other.example.com", Subject: "42", Name: "carl"}
	l, err := s.accounts.LoginExternal(t.Context(), ext, link, "192.0.2.1:1", "")
	if err != nil || l.User.ID != invited.ID || l.User.Roles["default"] != accounts.RoleAdmin || l.User.ByClaims {
		t.Fatalf("%+v, %v", l, err)
	}
	ext.Subject = "43"
	if _, err := s.accounts.LoginExternal(t.Context(), ext, link, "", ""); !wire.HasCode(err, wire.CodeTokenUsed) {
		t.Errorf("a link that was used: %v", err)
	}
	link, _, err = s.accounts.NewLink(t.Context(), invited.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.accounts.LoginExternal(t.Context(), ext, link, "", ""); !wire.HasCode(err, wire.CodeConflict) {
		t.Errorf("a second person for one user: %v", err)
	}
	ext.Subject = "42"
	if l, err := s.accounts.LoginExternal(t.Context(), ext, "", "", ""); err != nil || l.User.ID != invited.ID {
		t.Errorf("%+v, %v", l, err)
	}
	ext.Issuer = "https://third.example.com" // the same subject of another provider is another person
	if _, err := s.accounts.LoginExternal(t.Context(), ext, "", "", ""); !wire.HasCode(err, wire.CodeForbidden) {
		t.Errorf("the same subject of another provider: %v", err)
	}
	if err := s.accounts.RemoveUser(t.Context(), invited.ID, 0); err != nil {
		t.Fatal(err)
	}
	ext.Issuer = "https://other.example.com"
	if _, err := s.accounts.LoginExternal(t.Context(), ext, "", "", ""); !wire.HasCode(err, wire.CodeForbidden) {
		t.Errorf("a user that was removed: %v", err)
	}
}
