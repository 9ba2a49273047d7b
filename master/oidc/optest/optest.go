// Package optest runs an OpenID Connect provider that is not ours, for tests: the example server of github.com/zitadel/oidc, a library whose
// providers are certified. Dex would be better known, but the Go module proxy has only one from before PKCE. It is neither linked nor shipped.
package optest

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

const (
	version = "3.52.0"
	module  = "github.com/zitadel/oidc/v3/example/server@v" + version
)

// ClientID and ClientSecret are of the one client that the provider knows.
const (
	ClientID     = "web"
	ClientSecret = "secret"
)

// User is somebody whom the provider knows. All have the same Password.
type User struct {
	ID, Username, Password, FirstName, LastName, Email string
	EmailVerified                                      bool
	PreferredLanguage                                  string
}

// Password of all users.
const Password = "the provider's own password"

// binary finds the provider in $OPENMIGRATE_CACHE/bin or builds it there, which takes a minute once.
func binary(tb testing.TB) string {
	tb.Helper()
	cache := os.Getenv("OPENMIGRATE_CACHE")
	if cache == "" {
		cache = "/var/cache/openmigrate"
	}
	path := filepath.Join(cache, "bin", "oidc-provider-"+version)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "build-*") // beside it, so that it can be renamed
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.CommandContext(tb.Context(), "go", "install", module)
	cmd.Dir = tb.TempDir() // outside of our module
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build OpenID Connect provider: %v\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(dir, "server"), path); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Start runs the provider until the test ends, for a master that takes answers at redirect, and returns the issuer.
func Start(tb testing.TB, redirect string, users ...User) (issuer string) {
	tb.Helper()
	known := map[string]User{}
	for _, u := range users {
		u.Password, u.PreferredLanguage = Password, "en"
		known[u.ID] = u
	}
	b, err := json.Marshal(known)
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "users.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	path := binary(tb)
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), path)
	cmd.Env = append(os.Environ(), "PORT="+port, "REDIRECT_URI="+redirect, "USERS_FILE="+file)
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // its exit tells nothing: it was killed
	})
	issuer = "http://localhost:" + port + "/"
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, issuer+".well-known/openid-configuration", nil)
		if err != nil {
			tb.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_ = resp.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return issuer
		}
		if time.Now().After(until) {
			tb.Fatal("the OpenID Connect provider does not start")
		}
	}
}

// Browser is a client that keeps cookies. transport trusts the master's certificate.
func Browser(tb testing.TB, transport http.RoundTripper) *http.Client {
	tb.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return &http.Client{Jar: jar, Transport: transport, Timeout: 30 * time.Second}
}

var authRequest = regexp.MustCompile(`name="id" value="([^"]+)"`)

// LogIn begins a login at the master's URL begin, types name and password into the provider's page, and returns the last answer: the master's.
func LogIn(tb testing.TB, browser *http.Client, begin, name, password string) *http.Response {
	tb.Helper()
	page, text := get(tb, browser, begin)
	m := authRequest.FindStringSubmatch(text)
	if m == nil {
		tb.Fatalf("%s shows no login: %d %.300s", page.Request.URL, page.StatusCode, text)
	}
	form := url.Values{"username": {name}, "password": {password}, "id": {m[1]}}
	resp, err := browser.PostForm(page.Request.URL.Scheme+"://"+page.Request.URL.Host+"/login/username", form) //nolint:noctx // the client has a timeout
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func get(tb testing.TB, browser *http.Client, at string) (*http.Response, string) {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, at, nil)
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := browser.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp, string(b)
}
