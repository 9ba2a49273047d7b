package wire

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// serve answers with h over TLS and returns a client that trusts it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	c, err := NewClient(ClientOptions{URL: s.URL, CA: s.Certificate().Raw, Token: "omt_x", Generation: func() uint64 { return 7 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPath(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		values  []string
		want    string
	}{
		{PathMachine, []string{"web-1"}, "/api/v1/machines/web-1"},
		{PathSync, []string{"a", "b"}, "/api/v1/machines/a/sync/b"},
		{PathRestpoint, []string{"web-1/latest"}, "/api/v1/restpoints/web-1%2Flatest"},
		{PathMachine, []string{"../../x?y#z"}, "/api/v1/machines/..%2F..%2Fx%3Fy%23z"},
	} {
		if got := Path(tt.pattern, tt.values...); got != tt.want {
			t.Errorf("Path(%s, %q) = %s, want %s", tt.pattern, tt.values, got, tt.want)
		}
	}
}

func TestClientSaysWhoItIs(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Header.Get("Authorization") != "Bearer omt_x" || r.Header.Get(HeaderGeneration) != "7" {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	if status, err := c.Do(t.Context(), http.MethodPost, "/", map[string]int{}, nil); err != nil || status != http.StatusOK {
		t.Errorf("%d, %v", status, err)
	}
}

func TestClientErrors(t *testing.T) {
	away, err := NewClient(ClientOptions{URL: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = away.Do(t.Context(), http.MethodGet, "/", nil, nil)
	if !errors.Is(err, ErrUnreachable) || !Passing(err) {
		t.Errorf("nobody there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := away.Do(ctx, http.MethodGet, "/", nil, nil); !errors.Is(err, context.Canceled) || Passing(err) {
		t.Errorf("given up: %v", err)
	}

	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/problem":
			w.Header().Set("Content-Type", ProblemType)
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(NewProblem(http.StatusOK, CodeBusy, "busy").WithNext("wait"))
		case "/redirect":
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		case "/bad":
			_, _ = w.Write([]byte("<html>"))
		default:
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("<html>"))
		}
	})
	do := func(path string) error {
		_, err := c.Do(t.Context(), http.MethodGet, path, nil, &struct{}{})
		return err
	}
	var p *Problem
	if err := do("/problem"); !errors.As(err, &p) || p.Code != CodeBusy || p.Status != http.StatusConflict || p.Next != "wait" || Passing(err) {
		t.Errorf("problem: %v", err)
	}
	if err := do("/redirect"); !errors.As(err, &p) || p.Status != http.StatusFound {
		t.Errorf("a redirect was followed, or taken for an answer: %v", err)
	}
	if err := do("/cut"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("cut answer: %v", err)
	}
	if err := do("/bad"); err == nil || Passing(err) {
		t.Errorf("answer that is not JSON: %v", err)
	}
	if err := do("/proxy"); !errors.As(err, &p) || p.Status != http.StatusBadGateway {
		t.Errorf("error that is not a problem: %v", err)
	}
}

func TestPinIsOfTheCA(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	// A chain of one self-signed certificate has no CA in it, even when the key is the pinned one.
	for name, pin := range map[string][32]byte{"of the leaf": Pin(s.Certificate()), "of nothing": {}, "of another": Pin(&x509.Certificate{})} {
		c, err := NewClient(ClientOptions{URL: s.URL, Pin: &pin})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Do(t.Context(), http.MethodGet, "/", nil, nil); !errors.Is(err, ErrUntrusted) {
			t.Errorf("pin %s: %v", name, err)
		}
		c.Close()
	}
}

func TestNewClientRefuses(t *testing.T) {
	for _, u := range []string{"", "http://a", "https://", "a:1", "https://\x00"} {
		if _, err := NewClient(ClientOptions{URL: u}); err == nil {
			t.Errorf("%q was taken", u)
		}
	}
	if _, err := NewClient(ClientOptions{URL: "https://a", CA: []byte("nothing")}); err == nil {
		t.Error("a damaged CA was taken")
	}
}

func TestRetry(t *testing.T) {
	tests := map[string]struct {
		errs  []error
		calls int
		ok    bool
	}{
		"at once":        {[]error{nil}, 1, true},
		"passes":         {[]error{ErrUnreachable, NewProblem(503, CodeUnavailable, "starting"), nil}, 3, true},
		"will not pass":  {[]error{NewProblem(403, CodeRevoked, "no"), nil}, 1, false},
		"not the master": {[]error{ErrUntrusted, nil}, 1, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := Retry(t.Context(), 0, func() error { calls++; return tt.errs[calls-1] })
			if calls != tt.calls || (err == nil) != tt.ok {
				t.Errorf("%d calls, %v", calls, err)
			}
		})
	}
	if err := Retry(t.Context(), time.Nanosecond, func() error { return ErrUnreachable }); !errors.Is(err, ErrUnreachable) {
		t.Errorf("past the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := Retry(ctx, 0, func() error { cancel(); return ErrUnreachable }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
