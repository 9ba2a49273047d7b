package webhook

import (
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a service with an endpoint on 127.0.0.1, which it may reach.
type world struct {
	*Service
	t        *testing.T
	db       store.Store
	clock    *clock.Fake
	options  Options
	endpoint *httptest.Server
	shut     []Hook

	mu     sync.Mutex
	got    []request                                    // guarded by mu
	answer func(w http.ResponseWriter, r *http.Request) // guarded by mu; nil: 204
}

type request struct {
	header http.Header
	body   []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
	var err error
	if w.db, err = boltstore.Open(filepath.Join(t.TempDir(), "db"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.endpoint = httptest.NewTLSServer(http.HandlerFunc(w.take))
	w.endpoint.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelDebug)
	t.Cleanup(w.endpoint.Close)
	roots := x509.NewCertPool()
	roots.AddCert(w.endpoint.Certificate())
	w.options = Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Roots: roots, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Disabled: func(h Hook) { w.shut = append(w.shut, h) }}
	w.Service = New(w.db, w.clock, &w.options)
	return w
}

func (w *world) take(rw http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.mu.Lock()
	w.got = append(w.got, request{r.Header.Clone(), b})
	answer := w.answer
	w.mu.Unlock()
	if answer == nil {
		rw.WriteHeader(http.StatusNoContent)
		return
	}
	answer(rw, r)
}

func (w *world) answers(fn func(http.ResponseWriter, *http.Request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = fn
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) }
}

// requests are those that came since the last call.
func (w *world) requests() []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

func (w *world) hook(types ...string) (*Hook, string) {
	w.t.Helper()
	h, text, err := w.Create(w.t.Context(), "default", Spec{URL: w.endpoint.URL + "/hook", Types: types, Enabled: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return h, text
}

func (w *world) emit(kind string) {
	w.t.Helper()
	if err := w.Emit(w.t.Context(), Event{Type: kind, Project: "default", Time: w.clock.Now(), Data: map[string]string{"id": "m1"}}); err != nil {
		w.t.Fatal(err)
	}
}

// round delivers what is due, and waits for it.
func (w *world) round() {
	w.t.Helper()
	for range 100 {
		if _, err := w.step(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.workers.Wait()
		select {
		case <-w.wake:
		default:
			return
		}
	}
	w.t.Fatal("it never ends")
}

func (w *world) log(h *Hook) []Delivery {
	w.t.Helper()
	list, err := w.Deliveries(w.t.Context(), "default", h.ID, 0, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// verify checks a request as a consumer does, but for the time, which is the fake clock's.
func verify(t *testing.T, secret string, r request) {
	t.Helper()
	if !signed(t, secret, r) {
		t.Errorf("signature %q does not fit", r.header.Get("webhook-signature"))
	}
}

func signed(t *testing.T, secret string, r request) bool {
	t.Helper()
	if !strings.HasPrefix(secret, "whsec_") {
		t.Fatalf("secret %q", secret)
	}
	c, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return c.VerifyIgnoringTimestamp(r.body, r.header) == nil
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if !wire.HasCode(err, code) {
		t.Errorf("%s: got %v, want code %s", what, err, code)
	}
}
