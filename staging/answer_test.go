package staging_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/staging"
)

// answer serves one fixed answer and returns a client that may reach it, its URL and its host.
func answer(t *testing.T, h http.HandlerFunc) (*staging.SignedClient, staging.SignedRequest, string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	c := staging.NewSignedClientWith(&http.Transport{}, []string{host})
	t.Cleanup(c.Close)
	return c, staging.SignedRequest{URL: srv.URL + "/object"}, host
}

func TestRangeAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		off, length int64
		span, body  string
		good        bool
	}{
		"as asked":         {10, 5, "bytes 10-14/100", "abcde", true},
		"to the end":       {95, -1, "bytes 95-99/100", "abcde", true},
		"short object":     {95, 50, "bytes 95-99/100", "abcde", true},
		"shifted":          {10, 5, "bytes 11-15/100", "abcde", false},
		"shorter":          {10, 5, "bytes 10-13/100", "abcd", false},
		"longer":           {10, 5, "bytes 10-15/100", "abcdef", false},
		"not to the end":   {10, -1, "bytes 10-14/100", "abcde", false},
		"other length":     {10, 5, "bytes 10-14/100", "abc", false},
		"past its end":     {10, 5, "bytes 10-14/12", "abcde", false},
		"no range":         {10, 5, "", "abcde", false},
		"backwards":        {10, 5, "bytes 14-10/100", "abcde", false},
		"negative":         {10, 5, "bytes -10-14/100", "abcde", false},
		"no total":         {10, 5, "bytes 10-14/*", "abcde", false},
		"too large number": {10, 5, "bytes 10-14/99999999999999999999", "abcde", false},
	} {
		t.Run(name, func(t *testing.T) {
			client, s, host := answer(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.span != "" {
					w.Header().Set("Content-Range", c.span)
				}
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, c.body)
			})
			r, err := client.Get(t.Context(), s, c.off, c.length)
			if !c.good {
				if !errors.Is(err, staging.ErrChecksum) || !strings.Contains(err.Error(), host) {
					t.Errorf("get: %v, want ErrChecksum that names %s", err, host)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || string(got) != c.body {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// TestNothingAsked: a range that HTTP cannot express never reaches the server.
func TestNothingAsked(t *testing.T) {
	client, s, _ := answer(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %q", r.Header.Get("Range")) })
	r, err := client.Get(t.Context(), s, 7, 0)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); len(b) > 0 || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	for _, q := range [][2]int64{{-1, 5}, {0, -2}} {
		if _, err := client.Get(t.Context(), s, q[0], q[1]); !errors.Is(err, staging.ErrRange) {
			t.Errorf("get %d bytes from %d: %v, want ErrRange", q[1], q[0], err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		status int
		value  string
		want   time.Duration
	}{
		{503, "7", 7 * time.Second}, {429, " 7 ", 7 * time.Second}, {500, "7", 0}, {503, "", 0}, {503, "-7", 0}, {503, "soon", 0},
		{503, date.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second},
		{503, date.Add(-time.Second).Format(http.TimeFormat), 0},
		{503, "2000000000", 24 * time.Hour}, {503, "99999999999999999999", 0},
	} {
		client, s, _ := answer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", date.Format(http.TimeFormat))
			w.Header().Set("Retry-After", c.value)
			w.WriteHeader(c.status)
		})
		err := client.Put(t.Context(), s, []byte("x"), nil)
		if got := staging.RetryAfter(err); got != c.want || !errors.Is(err, staging.ErrTemporary) {
			t.Errorf("status %d with %q: %v, wait %s, want %s", c.status, c.value, err, got, c.want)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "localhost": true,
		"": false, "10.0.0.1": false, "localhost.example.org": false, "127.0.0.1.example.org": false, "::ffff:127.0.0.1": false, "0.0.0.0": false,
	} {
		if got := staging.IsLoopback(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}

// TestPlainHTTP: a signed URL without TLS is not followed off the machine, even to a host that is allowed.
func TestPlainHTTP(t *testing.T) {
	client := staging.NewSignedClientWith(&http.Transport{}, []string{"192.0.2.1:80"})
	if err := client.Put(t.Context(), staging.SignedRequest{URL: "http://192.0.2.1:80/a"}, nil, nil); !errors.Is(err, staging.ErrDenied) {
		t.Errorf("put: %v, want ErrDenied", err)
	}
}
