package s3store_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/s3store"
)

// open returns a store over a server without TLS.
func open(t *testing.T, h http.Handler) *s3store.Store {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	s, err := s3store.New(s3store.Options{Endpoint: srv.URL, Bucket: "bucket", AccessKey: "a", SecretKey: "s"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// bucket is a server that refuses what it must, a lost conditional PUT with the status exists; 0 overwrites.
type bucket struct {
	exists int
	mu     sync.Mutex
	names  map[string]bool // guarded by mu
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := r.Header.Get("X-Amz-Checksum-Crc32c")
	switch {
	case r.Method == http.MethodDelete:
		delete(b.names, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	case err != nil || r.Method != http.MethodPut:
		w.WriteHeader(http.StatusBadRequest)
	case b.exists != 0 && b.names[r.URL.Path] && r.Header.Get("If-None-Match") == "*":
		w.WriteHeader(b.exists)
	case r.URL.Query().Has("X-Amz-Signature") && !isSum(sum, body):
		w.WriteHeader(http.StatusBadRequest)
	default:
		b.names[r.URL.Path] = true
	}
}

func isSum(sum string, body []byte) bool {
	c := staging.Checksum(body)
	return sum == base64.StdEncoding.EncodeToString(c[:])
}

// TestProbeTellsServersApart: a lost conditional PUT is ErrExists, whether the server says so with 412 or with 304.
func TestProbeTellsServersApart(t *testing.T) {
	for _, status := range []int{http.StatusPreconditionFailed, http.StatusNotModified, 0} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			b := &bucket{exists: status, names: map[string]bool{}}
			s := open(t, b)
			want := s3store.Capabilities{IfAbsent: status != 0, IfAbsentStatus: status, SignedChecksum: true, SignedSize: true}
			if got, err := s.Probe(t.Context()); err != nil || got != want {
				t.Errorf("probe: %+v, %v, want %+v", got, err, want)
			}
			if len(b.names) != 0 {
				t.Errorf("probe left %v", b.names)
			}
			if status == 0 {
				return
			}
			once := &staging.PutOptions{IfAbsent: true}
			if err := s.Put(t.Context(), "a", []byte("1"), once); err != nil {
				t.Fatal(err)
			}
			if err := s.Put(t.Context(), "a", []byte("2"), once); !errors.Is(err, staging.ErrExists) {
				t.Errorf("second put: %v, want ErrExists", err)
			}
		})
	}
}

// TestRefusals: what an operator can mend is permanent, and says how.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		status     int
		code, says string
	}{
		{404, "NoSuchBucket", "create it or correct the staging URL"},
		{400, "InvalidBucketName", "correct the staging URL"},
		{403, "InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"},
		{403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"},
		{403, "AccessDenied", "status 403 AccessDenied"},
		{400, "ExpiredToken", "renew AWS_SESSION_TOKEN"},
		{403, "RequestTimeTooSkewed", "clocks"},
		{400, "AuthorizationHeaderMalformed", "add region=eu-north-1"},
		{301, "PermanentRedirect", "add region=eu-north-1"},
	} {
		t.Run(c.code, func(t *testing.T) {
			s := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(c.status)
				_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Region>eu-north-1</Region></Error>", c.code)
			}))
			err := s.Put(t.Context(), "a", []byte("x"), nil)
			if !errors.Is(err, staging.ErrDenied) || errors.Is(err, staging.ErrTemporary) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("put: %v, want ErrDenied that says %q", err, c.says)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	s := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	_, serr := s.Stat(t.Context(), "a")
	_, gerr := s.Get(t.Context(), "a", 0, -1)
	for name, err := range map[string]error{
		"put": s.Put(t.Context(), "a", []byte("x"), nil), "stat": serr, "get": gerr, "delete": s.Delete(t.Context(), "a"),
		"list": s.List(t.Context(), "", "", func(staging.Info) error { return nil }),
	} {
		if staging.RetryAfter(err) != 7*time.Second || !errors.Is(err, staging.ErrTemporary) {
			t.Errorf("%s: %v, wait %s, want ErrTemporary and 7s", name, err, staging.RetryAfter(err))
		}
	}
}

// TestShiftedRange: another range than the one asked for is found, and its server named.
func TestShiftedRange(t *testing.T) {
	s := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 11-15/100")
		w.Header().Set("Last-Modified", time.Unix(1, 0).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, "abcde")
	}))
	if _, err := s.Get(t.Context(), "a", 10, 5); !errors.Is(err, staging.ErrChecksum) || !strings.Contains(err.Error(), "from 127.0.0.1:") {
		t.Errorf("get: %v, want ErrChecksum that names the server", err)
	}
}
