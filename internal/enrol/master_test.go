package enrol

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/statedir"
	"github.com/openmigrate/openmigrate/master/api"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// master is a real one's door, behind something that can get in the way.
type master struct {
	t        *testing.T
	env      *catalogtest.Env
	ca       *ca.CA
	caDir    string
	registry *identity.Registry
	url      string

	mu    sync.Mutex
	paths []string                                      // of every request that arrived; guarded by mu
	fate  func(path string, serve func() []byte) []byte // of each request, returns its answer; nil: the connection breaks; guarded by mu
}

type enroller struct{ c *catalog.Catalog }

func (e enroller) Enrol(ctx context.Context, project string, q *wire.EnrollRequest) (id, name string, err error) {
	m, err := e.c.CreateMachine(ctx, catalog.Machine{Project: project, Name: q.Name, SigningKey: q.SigningKey, Fingerprint: q.Fingerprint})
	return m.ID, m.Name, err
}

func newMaster(t *testing.T) *master {
	t.Helper()
	m := &master{t: t, env: catalogtest.New(t, nil), caDir: t.TempDir()}
	m.env.Clock.Advance(time.Since(m.env.Clock.Now())) // TLS judges the server's certificate by the real time
	// The CA is older than any certificate that the tests want.
	if _, err := ca.Open(m.caDir, clock.NewFake(m.env.Clock.Now().AddDate(0, 0, -100))); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.ca, err = ca.Open(m.caDir, m.env.Clock); err != nil {
		t.Fatal(err)
	}
	m.registry, err = identity.Open(t.Context(), m.env.DB, m.ca, m.env.Clock, enroller{m.env.Catalog}, m.env.MasterKey.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.url = "https://" + l.Addr().String()
	h, err := api.NewHandler(api.Deps{Catalog: m.env.Catalog, Identity: m.registry, CA: m.ca, URL: m.url,
		Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: m.between(h), TLSConfig: api.TLSConfig(m.ca, []string{"127.0.0.1"}), ReadHeaderTimeout: 5 * time.Second,
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

func (m *master) between(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.paths = append(m.paths, r.URL.Path)
		fate := m.fate
		m.mu.Unlock()
		if fate == nil {
			h.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		rec.Code = http.StatusOK
		answer := fate(r.URL.Path, func() []byte {
			h.ServeHTTP(&deadlines{rec}, r)
			return rec.Body.Bytes()
		})
		if answer == nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		w.WriteHeader(rec.Code)
		_, _ = w.Write(answer)
	})
}

// deadlines lets the handler set those that a recorder does not have.
type deadlines struct{ *httptest.ResponseRecorder }

func (*deadlines) SetReadDeadline(time.Time) error  { return nil }
func (*deadlines) SetWriteDeadline(time.Time) error { return nil }

func down(string, func() []byte) []byte { return nil }

// lost serves the request, and the answer never arrives.
func lost(_ string, serve func() []byte) []byte {
	serve()
	return nil
}

// meet sets what becomes of the next n requests; n < 0: of all. Those after are served.
func (m *master) meet(n int, fate func(string, func() []byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fate = func(path string, serve func() []byte) []byte {
		if n == 0 {
			return serve()
		}
		n--
		return fate(path, serve)
	}
}

// asked returns the paths of the requests since it was called last.
func (m *master) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.paths
	m.paths = nil
	return p
}

func (m *master) token(kind string) string {
	m.t.Helper()
	_, text, err := m.registry.NewEnrolToken(m.t.Context(), m.url, catalog.DefaultProject, kind, "test", 0, 1)
	if err != nil {
		m.t.Fatal(err)
	}
	return text
}

// options are those of a member in a directory, whose waits take no time but are noted in a nap.
func (m *master) options(dir Dir, kind, token string) (Options, *nap) {
	n := &nap{clock: clock.NewFake(m.env.Clock.Now())}
	return Options{Dir: dir, Kind: kind, Token: token, Name: "web1", Fingerprint: "f", Inventory: &wire.Inventory{}, Clock: n.clock,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Waiting: func(doing string, _ error) { n.waiting = append(n.waiting, doing) }, sleep: n.sleep}, n
}

// nap is how a test's member waits: its clock moves at once.
type nap struct {
	clock   *clock.Fake
	waits   []time.Duration
	waiting []string
	wake    func(n int) error // is told of each wait, from 1; an error ends it; may be nil
}

func (n *nap) sleep(ctx context.Context, d time.Duration) error {
	n.waits = append(n.waits, d)
	n.clock.Advance(d)
	if n.wake != nil {
		if err := n.wake(len(n.waits)); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func openDir(t *testing.T) *statedir.Dir {
	t.Helper()
	d, err := statedir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// join enrols, or fails the test.
func (m *master) join(o Options) *Member {
	m.t.Helper()
	member, err := Join(m.t.Context(), o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(member.Client().Close)
	return member
}

// greet shows that the master knows the member by its present certificate.
func (m *master) greet(member *Member, dir *statedir.Dir) error {
	generation, err := dir.NextGeneration()
	if err != nil {
		return err
	}
	path := wire.PathAgentHello
	if member.o.Kind == Node {
		path = wire.PathNodeHello
	}
	member.Client().Close()
	_, err = member.Client().Hello(m.t.Context(), path, &wire.Hello{Generation: generation, Fingerprint: "f", Version: "1"})
	return err
}

// noKeysBeside says when a directory holds keys beside the identity.
func noKeysBeside(t *testing.T, dir *statedir.Dir) {
	t.Helper()
	for _, name := range []string{enrolling, renewing} {
		var p pending
		if _, err := dir.Read(name, &p); err != nil || len(p.Key)+len(p.SigningKey) != 0 {
			t.Errorf("%s still holds keys: %v", name, err)
		}
	}
}

func count(paths []string, path string) int {
	return len(slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return p != path }))
}

// another is a token of the same text but for its secret or pin.
func another(t *testing.T, text string, change func(*wire.EnrolToken)) string {
	t.Helper()
	tok, err := wire.ParseEnrolToken(text)
	if err != nil {
		t.Fatal(err)
	}
	change(tok)
	return tok.Text()
}

var otherSecret = strings.Repeat("0", 32)
