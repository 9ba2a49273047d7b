package accounts

import (
	"crypto/tls"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestCookies(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	l := w.login("ann", good)
	list := l.Cookies()
	if len(list) != 2 || list[0].Name != SessionCookieName || list[0].MaxAge != int(DefaultSession/time.Second) || list[1].Name != DeviceCookieName {
		t.Fatalf("%v", list)
	}
	for _, c := range append(list, Logout()) {
		text := c.String()
		for _, want := range []string{"__Host-", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Strict"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q", text, want)
			}
		}
		if strings.Contains(text, "Domain") || c.Valid() != nil {
			t.Errorf("%s: %v", text, c.Valid())
		}
	}
	if !strings.Contains(Logout().String(), "Max-Age=0") {
		t.Error(Logout())
	}
}

// TestCookiesOverTLS sends them to a client that keeps the rules and back.
func TestCookiesOverTLS(t *testing.T) {
	w := newWorld(t)
	w.admin("ann")
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/login":
			for _, c := range w.login("ann", good).Cookies() {
				http.SetCookie(rw, c)
			}
		case "/logout":
			http.SetCookie(rw, Logout())
		default:
			if _, err := w.Session(r.Context(), CookieText(r, SessionCookieName)); err != nil {
				rw.WriteHeader(http.StatusUnauthorized)
			}
		}
	}))
	defer server.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := server.Client()
	client.Jar = jar
	client.Transport.(*http.Transport).TLSClientConfig.MinVersion = tls.VersionTLS13
	get := func(path string) int {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for _, step := range []struct {
		path string
		want int
	}{{"/", 401}, {"/login", 200}, {"/", 200}, {"/", 200}, {"/logout", 200}, {"/", 401}} {
		if got := get(step.path); got != step.want {
			t.Errorf("%s: %d, want %d", step.path, got, step.want)
		}
	}
}

func TestTwoCookiesAreNone(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Cookie", SessionCookieName+"=a; "+SessionCookieName+"=b; x=1")
	if CookieText(r, SessionCookieName) != "" || CookieText(r, "x") != "1" || CookieText(r, "y") != "" {
		t.Error("of two sessions one was taken")
	}
}
