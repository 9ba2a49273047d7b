// Package oidc lets people log in through an OpenID Connect provider: the authorization code flow with PKCE (RFC 7636). It tells who somebody is and
// which roles his claims give him; master/accounts decides which user that is.
//
// Invariants. An answer of the provider is taken only in the browser that the question was asked in: state, nonce and code verifier are in a sealed
// cookie of that browser, and each must fit. A person is the provider's (issuer, subject) and nothing else: neither name nor e-mail address, verified or
// not, makes anybody a user that exists. What the provider says is bounded. A Provider may be used by any number of goroutines.
package oidc

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	oidclib "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/wire"
)

// Config says which provider, and what its claims are worth.
type Config struct {
	Issuer       string
	ClientID     string
	ClientSecret string // empty: a public client
	RedirectURL  string // of this master, as the provider knows it
	Scopes       []string
	Claim        string           // with dots for claims inside of claims; empty: groups
	Roles        map[string]Roles // by a value of the claim
	Client       *http.Client     // nil: one with limits
	Clock        clock.Clock      // nil: the real one
}

// Roles are what a value of the claim gives: project, or accounts.AllProjects → role.
type Roles map[string]string

const (
	loginTime = 10 * time.Minute // from question to answer
	maxAnswer = 1 << 20          // bytes of anything that the provider says
	askTime   = 15 * time.Second // for all that is asked of the provider at once
	maxCookie = 3500             // bytes; browsers take 4096 with everything
	maxReturn = 500              // bytes
	maxValues = 1000             // of the claim
	maxName   = 200
)

// Provider is an OpenID Connect provider. It is asked for its endpoints when somebody first logs in, so a master starts without it.
type Provider struct {
	conf Config
	aead cipher.AEAD // of cookies; a restart of the master ends logins that are under way

	mu    sync.Mutex
	found *oidclib.Provider // guarded by mu; nil: not asked yet
}

// New checks a configuration.
func New(conf Config) (*Provider, error) {
	for name, s := range map[string]string{"issuer": conf.Issuer, "redirect URL": conf.RedirectURL} {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("OpenID Connect: %s %q is not a URL", name, s)
		}
		if u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1") {
			return nil, fmt.Errorf("OpenID Connect: %s %q: want https://", name, s)
		}
	}
	if conf.ClientID == "" {
		return nil, errors.New("OpenID Connect: a client id is needed")
	}
	if conf.Claim == "" {
		conf.Claim = "groups"
	}
	if conf.Clock == nil {
		conf.Clock = clock.Real{}
	}
	if conf.Client == nil {
		conf.Client = &http.Client{Timeout: askTime}
	}
	c := *conf.Client
	c.Transport = bounded{c.Transport}
	conf.Client = &c
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails since Go 1.24
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Provider{conf: conf, aead: aead}, nil
}

// Issuer is the provider's name.
func (p *Provider) Issuer() string { return p.conf.Issuer }

// provider asks the provider for its endpoints, once.
func (p *Provider) provider(ctx context.Context) (*oidclib.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	// Its keys are asked for again later, so the context must not end with the request's.
	found, err := oidclib.NewProvider(oidclib.ClientContext(context.WithoutCancel(ctx), p.conf.Client), p.conf.Issuer)
	if err != nil {
		return nil, wire.NewProblem(502, wire.CodeUnavailable, "the OpenID Connect provider does not answer as it should: %s", shortly(err)).
			WithNext("log in with a password, or try again; an admin looks whether " + p.conf.Issuer + " can be reached from the master")
	}
	p.found = found
	return found, nil
}

func (p *Provider) oauth(found *oidclib.Provider) *oauth2.Config {
	scopes := []string{oidclib.ScopeOpenID, "profile", "email"}
	for _, s := range p.conf.Scopes {
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return &oauth2.Config{ClientID: p.conf.ClientID, ClientSecret: p.conf.ClientSecret, RedirectURL: p.conf.RedirectURL, Endpoint: found.Endpoint(), Scopes: scopes}
}

// asked is what a browser keeps between question and answer.
type asked struct {
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	Return   string    `json:"r,omitempty"`
	Link     string    `json:"l,omitempty"`
	Until    time.Time `json:"u"`
}

// Begin sends a browser to the provider: to where, and with which cookie. back is the path that it is to come back to in the end; anything but a
// path on this host is "/". link is the text of a one-time link that the login spends; may be empty.
func (p *Provider) Begin(ctx context.Context, back, link string) (to string, cookie *http.Cookie, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	found, err := p.provider(ctx)
	if err != nil {
		return "", nil, err
	}
	if len(link) > 200 {
		return "", nil, wire.NewProblem(400, wire.CodeBadRequest, "this is not a one-time link")
	}
	a := asked{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Return: localPath(back), Link: link, Until: p.conf.Clock.Now().Add(loginTime)}
	text, err := p.seal(&a)
	if err != nil {
		return "", nil, err
	}
	to = p.oauth(found).AuthCodeURL(a.State, oidclib.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier))
	return to, accounts.LoginCookie(text, loginTime), nil
}

// localPath keeps a path on this host, and makes "/" of everything else: nobody is sent elsewhere by a link that begins here.
func localPath(s string) string {
	if len(s) > maxReturn || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '\\' || r == 0x7f }) {
		return "/"
	}
	u, err := url.Parse(s)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil {
		return "/"
	}
	return s
}

// cookieUse binds what is sealed to its purpose.
var cookieUse = []byte("openmigrate login 1")

func (p *Provider) seal(a *asked) (string, error) {
	b, err := json.Marshal(a)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, p.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(p.aead.Seal(nonce, nonce, b, cookieUse)), nil
}

// open reads a cookie that seal made, not long ago.
func (p *Provider) open(text string) (*asked, bool) {
	if len(text) > maxCookie {
		return nil, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	n := p.aead.NonceSize()
	if err != nil || len(b) < n {
		return nil, false
	}
	b, err = p.aead.Open(nil, b[:n], b[n:], cookieUse)
	if err != nil {
		return nil, false
	}
	a := &asked{}
	if json.Unmarshal(b, a) != nil || a.State == "" || !p.conf.Clock.Now().Before(a.Until) {
		return nil, false
	}
	return a, true
}

// shortly is what went wrong, for people, bounded: some of it is the provider's text.
func shortly(err error) string {
	var r *oauth2.RetrieveError
	if errors.As(err, &r) { // its text has the provider's whole answer
		if r.ErrorCode != "" {
			return clean(r.ErrorCode + " " + r.ErrorDescription)
		}
		return "it answered " + clean(r.Response.Status)
	}
	return clean(err.Error())
}

func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "") + "…"
	}
	return strings.TrimSpace(s)
}

// bounded limits what is read of an answer.
type bounded struct{ inner http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	inner := b.inner
	if inner == nil {
		inner = http.DefaultTransport
	}
	resp, err := inner.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}
