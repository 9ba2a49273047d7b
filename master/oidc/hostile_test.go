package oidc

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/wire"
)

// liar is a provider that says what a test wants.
type liar struct {
	*httptest.Server
	t        *testing.T
	key      crypto.Signer
	clock    *clock.Fake
	p        *Provider
	idToken  func(claims map[string]any) string
	userinfo string // JSON; empty: it has no such endpoint
	token    http.HandlerFunc
}

// liarKey is one for all tests: making one takes long.
var liarKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newLiar(t *testing.T) *liar {
	t.Helper()
	key := liarKey()
	l := &liar{t: t, key: key, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	l.idToken = l.sign
	keys := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k", Algorithm: "RS256"}}}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			d := map[string]any{"issuer": l.URL, "authorization_endpoint": l.URL + "/authorize", "token_endpoint": l.URL + "/token", "jwks_uri": l.URL + "/keys",
				"id_token_signing_alg_values_supported": []string{"RS256"}}
			if l.userinfo != "" {
				d["userinfo_endpoint"] = l.URL + "/userinfo"
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(d)
		case "/token":
			l.token(w, r)
		case "/userinfo":
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(l.userinfo))
		default:
			keys.ServeHTTP(w, r)
		}
	}))
	keys.SetIssuer(l.URL)
	t.Cleanup(l.Close)
	l.renew()
	return l
}

func (l *liar) renew() {
	var err error
	l.p, err = New(Config{Issuer: l.URL, ClientID: "me", ClientSecret: "s3cret", RedirectURL: "https://master.example.com/callback", Clock: l.clock,
		Client: &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
		Roles:  map[string]Roles{"team": {"default": accounts.RoleOperator}, "bosses": {"default": accounts.RoleAdmin}}})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *liar) sign(claims map[string]any) string {
	b, err := json.Marshal(claims)
	if err != nil {
		l.t.Fatal(err)
	}
	return oidctest.SignIDToken(l.key, "k", "RS256", string(b))
}

// login goes through a login, in which the claims of the identity are changed, and the query and the cookie of the answer.
func (l *liar) login(change func(map[string]any), answer func(url.Values, *http.Cookie)) (*Answer, error) {
	l.t.Helper()
	to, c, err := l.p.Begin(l.t.Context(), "/", "")
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(to)
	if err != nil {
		l.t.Fatal(err)
	}
	now := l.clock.Now()
	claims := map[string]any{"iss": l.URL, "aud": "me", "sub": "42", "nonce": u.Query().Get("nonce"), "exp": now.Add(time.Minute).Unix(), "iat": now.Unix(),
		"preferred_username": "ann", "email": "ann@example.com", "email_verified": true, "groups": []string{"x", "team"}}
	if change != nil {
		change(claims)
	}
	if l.token == nil {
		l.token = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": l.idToken(claims)})
		}
		defer func() { l.token = nil }()
	}
	q := url.Values{"code": {"c"}, "state": {u.Query().Get("state")}}
	if answer != nil {
		answer(q, c)
	}
	r := httptest.NewRequestWithContext(l.t.Context(), http.MethodGet, "/callback?"+q.Encode(), nil)
	r.AddCookie(c)
	return l.p.Finish(l.t.Context(), r)
}

func TestClaims(t *testing.T) {
	l := newLiar(t)
	for name, c := range map[string]struct {
		change func(map[string]any)
		email  string
		role   string
	}{
		"as they are":          {nil, "ann@example.com", accounts.RoleOperator},
		"not verified":         {func(m map[string]any) { m["email_verified"] = false }, "", accounts.RoleOperator},
		"verified, says text":  {func(m map[string]any) { m["email_verified"] = "true" }, "", accounts.RoleOperator},
		"not said":             {func(m map[string]any) { delete(m, "email_verified") }, "", accounts.RoleOperator},
		"one group as text":    {func(m map[string]any) { m["groups"] = "bosses" }, "ann@example.com", accounts.RoleAdmin},
		"the best of two":      {func(m map[string]any) { m["groups"] = []string{"bosses", "team"} }, "ann@example.com", accounts.RoleAdmin},
		"no group":             {func(m map[string]any) { delete(m, "groups") }, "ann@example.com", ""},
		"numbers, not groups":  {func(m map[string]any) { m["groups"] = []any{1, nil, map[string]any{"team": 1}} }, "ann@example.com", ""},
		"a group by part":      {func(m map[string]any) { m["groups"] = []string{"teams", "the team", "TEAM"} }, "ann@example.com", ""},
		"groups that are many": {func(m map[string]any) { m["groups"] = append(make([]string, 2000), "team") }, "ann@example.com", ""},
	} {
		a, err := l.login(c.change, nil)
		if err != nil || a.Email != c.email || a.Roles["default"] != c.role || a.Subject != "42" || a.Issuer != l.URL || a.Return != "/" {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	for text, want := range map[string]string{`{"a":{"b.c":["team"]}}`: "team", `{"a":{"b":{"c":"team"}}}`: "team", `{"a.b.c":["team"]}`: "team", `{"a":["b"]}`: "", `{"a":null}`: ""} {
		var claims map[string]any
		if err := json.Unmarshal([]byte(text), &claims); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(values(claims, "a.b.c"), ","); got != want {
			t.Errorf("%s gives %q", text, got)
		}
	}
}

func TestLies(t *testing.T) {
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	none := func(claims map[string]any) string {
		b, _ := json.Marshal(claims)
		e := base64.RawURLEncoding.EncodeToString
		return e([]byte(`{"alg":"none"}`)) + "." + e(b) + "."
	}
	type lie struct {
		change func(map[string]any)
		answer func(url.Values, *http.Cookie)
		with   func(*liar)
	}
	claim := func(name string, v any) lie { return lie{change: func(m map[string]any) { m[name] = v }} }
	answer := func(name, v string) lie { return lie{answer: func(q url.Values, _ *http.Cookie) { q.Set(name, v) }} }
	for name, c := range map[string]lie{
		"another nonce": claim("nonce", "n"), "no nonce": claim("nonce", ""), "another audience": claim("aud", "other"), "another issuer": claim("iss", "https://evil.example.com"),
		"no subject": claim("sub", ""), "a subject without end": claim("sub", strings.Repeat("s", 300)), "expired": claim("exp", 1), "another access token": claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"),
		"another state": answer("state", "s"), "no state": answer("state", ""), "no code": answer("code", ""), "a code without end": answer("code", strings.Repeat("c", 5000)),
		"from another provider": answer("iss", "https://evil.example.com"), "an error": answer("error", "access_denied"),
		"two states":            {answer: func(q url.Values, _ *http.Cookie) { q.Add("state", q.Get("state")) }},
		"no cookie":             {answer: func(_ url.Values, c *http.Cookie) { c.Value = "" }},
		"a cookie of ours, cut": {answer: func(_ url.Values, c *http.Cookie) { c.Value = c.Value[:len(c.Value)-2] }},
		"a huge cookie":         {answer: func(_ url.Values, c *http.Cookie) { c.Value = strings.Repeat("A", 1<<16) }},
		"no signature":          {with: func(l *liar) { l.idToken = none }},
		"another's key":         {with: func(l *liar) { l.key = stranger }},
		"signed by the client's secret": {with: func(l *liar) {
			l.idToken = func(m map[string]any) string {
				b, _ := json.Marshal(m)
				e := base64.RawURLEncoding.EncodeToString
				return e([]byte(`{"alg":"HS256","kid":"k"}`)) + "." + e(b) + "." + e([]byte("signature"))
			}
		}},
		"no identity":               {with: func(l *liar) { l.idToken = func(map[string]any) string { return "" } }},
		"nonsense":                  {with: func(l *liar) { l.idToken = func(map[string]any) string { return "a.b.c" } }},
		"userinfo of somebody else": {change: func(m map[string]any) { delete(m, "groups") }, with: func(l *liar) { l.userinfo = `{"sub":"43","groups":["bosses"]}` }},
		"userinfo that is none":     {change: func(m map[string]any) { delete(m, "groups") }, with: func(l *liar) { l.userinfo = `[]` }},
		"an answer without end": {with: func(l *liar) {
			l.token = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				for range 1 << 10 {
					if _, err := w.Write([]byte(strings.Repeat(" ", 64<<10))); err != nil {
						return
					}
				}
			}
		}},
		"a page of errors": {with: func(l *liar) {
			l.token = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = w.Write([]byte(strings.Repeat("planted <script> s3cret ", 1000)))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLiar(t)
			if c.with != nil {
				c.with(l)
			}
			a, err := l.login(c.change, c.answer)
			if !wire.HasCode(err, wire.CodeUnauthorized) {
				t.Fatalf("%+v, %v", a, err)
			}
			if len(err.Error()) > 600 || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "planted") {
				t.Errorf("the refusal tells too much: %.1000s", err)
			}
		})
	}
}

// TestLoginsExpire, and those that another process of the master began are not taken.
func TestLoginsExpire(t *testing.T) {
	l := newLiar(t)
	if _, err := l.login(nil, func(url.Values, *http.Cookie) { l.clock.Advance(loginTime) }); !wire.HasCode(err, wire.CodeUnauthorized) {
		t.Errorf("an old login: %v", err)
	}
	if _, err := l.login(nil, func(url.Values, *http.Cookie) { l.renew() }); !wire.HasCode(err, wire.CodeUnauthorized) {
		t.Errorf("a login that another process began: %v", err)
	}
	if _, err := l.login(nil, nil); err != nil {
		t.Error(err)
	}
}

// TestUserinfoAdds only what the identity lacks, and no address that the identity says otherwise.
func TestUserinfoAdds(t *testing.T) {
	l := newLiar(t)
	l.userinfo = `{"sub":"42","groups":["bosses"],"preferred_username":"eve","email":"boss@example.com","email_verified":true}`
	a, err := l.login(func(m map[string]any) { delete(m, "groups"); m["email_verified"] = false }, nil)
	if err != nil || a.Roles["default"] != accounts.RoleAdmin || a.Name != "ann" || a.Email != "" {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestProviderIsAway: a login fails with what to do, and the next one that finds it succeeds.
func TestProviderIsAway(t *testing.T) {
	l := newLiar(t)
	up := l.Config.Handler
	var down = true
	l.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		up.ServeHTTP(w, r)
	})
	if _, err := l.login(nil, nil); !wire.HasCode(err, wire.CodeUnavailable) {
		t.Errorf("%v", err)
	}
	down = false
	if _, err := l.login(nil, nil); err != nil {
		t.Error(err)
	}
}

func TestConfigs(t *testing.T) {
	good := Config{Issuer: "https://id.example.com", ClientID: "c", RedirectURL: "https://m.example.com/cb"}
	for name, change := range map[string]func(*Config){
		"no issuer": func(c *Config) { c.Issuer = "" }, "plain issuer": func(c *Config) { c.Issuer = "http://id.example.com" }, "no client": func(c *Config) { c.ClientID = "" },
		"plain redirect": func(c *Config) { c.RedirectURL = "http://m.example.com/cb" }, "no redirect": func(c *Config) { c.RedirectURL = "/cb" },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	p, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	a := &asked{State: "s", Return: strings.Repeat("r", maxReturn), Link: strings.Repeat("l", 200), Nonce: "n", Verifier: strings.Repeat("v", 128), Until: time.Now()}
	if text, err := p.seal(a); err != nil || len(text) > maxCookie {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	got, err := ParseRoles([]string{"team=default:operator", "team=lab:viewer", "a=b=*:admin"})
	want := map[string]Roles{"team": {"default": "operator", "lab": "viewer"}, "a=b": {"*": "admin"}}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "team", "team=default", "team=default:king", "=default:viewer", "team=:viewer"} {
		if _, err := ParseRoles([]string{s}); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	for in, want := range map[string]string{"/machines?a=b#c": "/machines?a=b#c", "": "/", "https://evil.example.com/": "/", "//evil.example.com": "/", "/\\evil.example.com": "/", "/\tx": "/",
		"javascript:alert(1)": "/", "/" + strings.Repeat("a", maxReturn): "/", "/%zz": "/"} {
		if got := localPath(in); got != want {
			t.Errorf("%q leads to %q", in, got)
		}
	}
}

func FuzzOpen(f *testing.F) {
	p, err := New(Config{Issuer: "https://id.example.com", ClientID: "c", RedirectURL: "https://m.example.com/cb"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if _, ok := p.open(s); ok {
			t.Errorf("%q was taken", s)
		}
	})
}
