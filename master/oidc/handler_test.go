package oidc

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/wire"
)

func TestPageOfFailures(t *testing.T) {
	s := newSite(t)
	p, err := New(Config{Issuer: "https://id.example.com", ClientID: "c", RedirectURL: s.URL + CallbackPath})
	if err != nil {
		t.Fatal(err)
	}
	h := NewHandler(p, s.accounts, nil, slog.New(slog.NewTextHandler(io.Discard, nil)))
	a := &asked{State: "s", Until: p.conf.Clock.Now().Add(loginTime)}
	text, err := p.seal(a)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		CallbackPath: 401, CallbackPath + "?state=s&error=" + url.QueryEscape("<script>alert(1)</script>\u202e"): 401, "/login/oidc/x": 404,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		r.Header.Set("Cookie", "__Host-openmigrate-login="+text)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		body := w.Body.String()
		if w.Code != want || strings.Contains(body, "<script>") || strings.Contains(body, "\u202e") || !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") ||
			w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %d %v %s", path, w.Code, w.Header(), body)
		}
		if strings.HasPrefix(path, CallbackPath) && !strings.Contains(w.Header().Get("Set-Cookie"), "__Host-openmigrate-login=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax") {
			t.Errorf("%s: the cookie stays: %v", path, w.Header())
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, CallbackPath, nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
	for range atOnce {
		h.places <- struct{}{}
	}
	if _, err := h.serve(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, BeginPath, nil)); !wire.HasCode(err, wire.CodeUnavailable) {
		t.Errorf("one too many: %v", err)
	}
}
