package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/api"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/wire"
)

// master is a real one's door, over a bucket in memory.
type master struct {
	*catalogtest.Env
	t        *testing.T
	registry *identity.Registry
	url      string

	authority *ca.CA
	mu        sync.Mutex
	before    func(path string) bool // is told of each request, and says whether it is served; guarded by mu
	after     func(path string)      // guarded by mu
}

type enroller struct{ c *catalog.Catalog }

func (e enroller) Enrol(ctx context.Context, project string, q *wire.EnrollRequest) (id, name string, err error) {
	m, err := e.c.CreateMachine(ctx, catalog.Machine{Project: project, Name: q.Name, SigningKey: q.SigningKey, Fingerprint: q.Fingerprint})
	return m.ID, m.Name, err
}

func newMaster(t *testing.T) *master {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bucket := httptest.NewUnstartedServer(nil)
	m := &master{t: t, url: "https://" + l.Addr().String()}
	m.Env = catalogtest.New(t, &catalog.Options{StagingHosts: []string{bucket.Listener.Addr().String()}})
	bucket.Config.Handler = m.Bucket
	bucket.Start()
	t.Cleanup(bucket.Close)
	m.Bucket.SetBaseURL(bucket.URL)
	m.Clock.Advance(time.Since(m.Clock.Now())) // agents judge certificates by the real time
	authority, err := ca.Open(t.TempDir(), m.Clock)
	if err != nil {
		t.Fatal(err)
	}
	m.authority = authority
	m.registry, err = identity.Open(t.Context(), m.DB, authority, m.Clock, enroller{m.Catalog}, m.MasterKey.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.NewHandler(api.Deps{Catalog: m.Catalog, Identity: m.registry, CA: authority, URL: m.url,
		Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: m.watch(h), TLSConfig: api.TLSConfig(authority, []string{"127.0.0.1"}), ReadHeaderTimeout: 5 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return m
}

func (m *master) watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		before, after := m.before, m.after
		m.mu.Unlock()
		if before != nil && !before(r.URL.Path) {
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
		if after != nil {
			after(r.URL.Path)
		}
	})
}

func (m *master) hooks(before func(path string) bool, after func(path string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.after = before, after
}

func (m *master) token() string {
	m.t.Helper()
	_, text, err := m.registry.NewEnrolToken(m.t.Context(), m.url, catalog.DefaultProject, ca.KindAgent, "test", 0, 1)
	if err != nil {
		m.t.Fatal(err)
	}
	return text
}

// machine is the one that enrolled.
func (m *master) machine() catalog.Machine {
	m.t.Helper()
	list, err := m.Catalog.Machines(m.t.Context(), catalog.DefaultProject)
	if err != nil || len(list) != 1 {
		m.t.Fatalf("%d machines, %v", len(list), err)
	}
	return list[0]
}

func (m *master) sync() {
	m.t.Helper()
	if _, err := m.Catalog.RequestSync(m.t.Context(), m.machine().ID); err != nil {
		m.t.Fatal(err)
	}
}

func (m *master) pause(paused bool) {
	m.t.Helper()
	if err := m.Catalog.SetPaused(m.t.Context(), m.machine().ID, paused); err != nil {
		m.t.Fatal(err)
	}
}

func (m *master) revoke() {
	m.t.Helper()
	id := m.machine().ID
	if err := errors.Join(m.Catalog.Revoke(m.t.Context(), id), m.registry.Revoke(m.t.Context(), ca.KindAgent, id, "test")); err != nil {
		m.t.Fatal(err)
	}
}

func isAbort(path string) bool { return strings.HasSuffix(path, "/abort") }
