package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/audit"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/master/outbox"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a master behind a real TLS listener.
type world struct {
	t        *testing.T
	env      *catalogtest.Env
	ca       *ca.CA
	caDir    string
	registry *identity.Registry
	accounts *accounts.Service
	url      string
	handler  *Handler
	outbox   *outbox.Outbox
	audit    *audit.Log
	webhooks *webhook.Service
	launches *fakeLaunches
	plain    *http.Client
	fleet    *catalog.Fleet
	arrived  atomic.Pointer[func(*http.Request)] // is told of each request
}

type enroller struct{ c *catalog.Catalog }

func (e enroller) Enrol(ctx context.Context, project string, q *wire.EnrollRequest) (id, name string, err error) {
	m, err := e.c.CreateMachine(ctx, catalog.Machine{Project: project, Name: q.Name, SigningKey: q.SigningKey, Fingerprint: q.Fingerprint})
	return m.ID, m.Name, err
}

// fakeStaging is a bucket's operations that do nothing.
type fakeStaging struct{ fail error }

func (s fakeStaging) Stats(context.Context) (wire.StagingStats, error) {
	return wire.StagingStats{Objects: 1, Packs: map[string]wire.Amount{}}, s.fail
}
func (s fakeStaging) Check(_ context.Context, _ bool, p func(wire.Progress)) (any, error) {
	p(wire.Progress{Done: 1})
	return map[string]int{"damaged": 0}, s.fail
}
func (s fakeStaging) Collect(context.Context, func(wire.Progress)) (any, error) { panic("a bug") }
func (s fakeStaging) Rebuild(context.Context, func(wire.Progress)) (any, error) {
	return nil, errors.New("bucket is away")
}
func (s fakeStaging) NewRecoveryKey(context.Context, string) (string, error) { return "AGE", s.fail }

func newWorld(t *testing.T) *world {
	t.Helper()
	fake := newFakeLaunches()
	w := newWorldWith(t, func(*world) Launches { return fake })
	w.launches = fake
	return w
}

// newWorldWith is newWorld with an engine of launches.
func newWorldWith(t *testing.T, engine func(*world) Launches) *world {
	t.Helper()
	w := &world{t: t, caDir: t.TempDir(), outbox: outbox.New(1000)}
	watch := func(db store.Store) store.Store { return outbox.Watch(db, w.told) }
	w.env = catalogtest.NewOver(t, &catalog.Options{Moved: func(x catalog.Moved) {
		w.outbox.Publish(outbox.Event{Kind: x.Kind, ID: x.ID, Project: x.Project, Machine: x.Machine})
	}}, watch)
	w.fleet = catalog.NewFleet(w.env.Catalog)
	db := watch(w.env.DB)
	w.env.Clock.Advance(time.Since(w.env.Clock.Now())) // clients judge certificates by the real time
	// The CA is older than any certificate that the tests want.
	if _, err := ca.Open(w.caDir, clock.NewFake(w.env.Clock.Now().Add(-100*24*time.Hour))); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.ca, err = ca.Open(w.caDir, w.env.Clock); err != nil {
		t.Fatal(err)
	}
	w.registry, err = identity.Open(t.Context(), db, w.ca, w.env.Clock, enroller{w.env.Catalog}, w.env.MasterKey.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if w.accounts, err = accounts.Open(t.Context(), db, w.env.Clock, &accounts.Options{Hash: accounts.HashParams{Time: 1, Memory: 64, Threads: 1}}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "https://" + l.Addr().String()
	w.webhooks = webhook.New(db, w.env.Clock, nil)
	w.audit = audit.New(w.env.DB, w.env.Clock, nil)
	h, err := NewHandler(Deps{Catalog: w.env.Catalog, Fleet: w.fleet, Identity: w.registry, Accounts: w.accounts, CA: w.ca, Staging: fakeStaging{}, Launches: engine(w), DB: w.env.DB, Events: w.outbox, Audit: w.audit, Webhooks: w.webhooks,
		URL: w.url, Version: "test", Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	w.handler = h
	server := &http.Server{
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if fn := w.arrived.Load(); fn != nil {
				(*fn)(r)
			}
			h.ServeHTTP(rw, r)
		}),
		TLSConfig: TLSConfig(w.ca, []string{"127.0.0.1"}), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: time.Second,
		ErrorLog: slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		h.Close()
		w.outbox.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return w
}

// told hears what every transaction changed, as the master does.
func (w *world) told(events []outbox.Event) {
	w.outbox.Publish(events...)
	for i := range events {
		if w.fleet != nil {
			w.fleet.Hear(events[i].Kind, events[i].ID, events[i].Machine)
		}
	}
}

// actor is somebody with credentials.
type actor struct {
	*wire.Client
	name       string
	id         string
	token      string // of a person
	cert       atomic.Pointer[tls.Certificate]
	generation atomic.Uint64
}

func (w *world) client(o wire.ClientOptions) *wire.Client {
	w.t.Helper()
	if o.URL == "" {
		o.URL = w.url
	}
	if o.CA == nil && o.Pin == nil {
		o.CA = w.ca.Certificate().Raw
	}
	c, err := wire.NewClient(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func (w *world) person(role string) *actor {
	w.t.Helper()
	_, text, err := w.accounts.NewToken(w.t.Context(), nil, accounts.Token{Project: catalog.DefaultProject, Name: role, Role: role}, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return &actor{name: role, token: text, Client: w.client(wire.ClientOptions{Token: text})}
}

func (w *world) admin() *apiclient.Client { return apiclient.New(w.person(accounts.RoleAdmin).Client) }

func (w *world) enrolToken(kind string) *wire.EnrolToken {
	w.t.Helper()
	_, text, err := w.registry.NewEnrolToken(w.t.Context(), w.url, catalog.DefaultProject, kind, "test", 0, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	tok, err := wire.ParseEnrolToken(text)
	if err != nil {
		w.t.Fatal(err)
	}
	return tok
}

// newKey makes a key and a request for a certificate for it, which wishes for names that it must not get.
func newKey(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"master"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func enrolRequest(t *testing.T, tok *wire.EnrolToken, kind string) (*wire.EnrollRequest, *ecdsa.PrivateKey) {
	t.Helper()
	key, csr := newKey(t)
	q := &wire.EnrollRequest{Kind: kind, TokenID: tok.ID, Secret: tok.Secret, CSR: csr, Name: "host", Fingerprint: "f", Version: "1"}
	if kind == ca.KindAgent {
		public, signing, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		q.SigningKey, q.SigningSig = public, ed25519.Sign(signing, csr)
	}
	return q, key
}

// enrol makes an agent or node with an identity, over the wire; hello says Hello for it.
func (w *world) enrol(kind string, hello bool) *actor {
	w.t.Helper()
	tok := w.enrolToken(kind)
	q, key := enrolRequest(w.t, tok, kind)
	out, err := w.client(wire.ClientOptions{Pin: &tok.Pin}).Enroll(w.t.Context(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	a := w.actor(kind, out.ID, &tls.Certificate{Certificate: out.Certificate, PrivateKey: key})
	if hello {
		a.generation.Store(1)
		if _, err := a.Hello(w.t.Context(), helloPath(kind), &wire.Hello{Generation: 1, Fingerprint: "f", Version: "1"}); err != nil {
			w.t.Fatal(err)
		}
	}
	return a
}

func helloPath(kind string) string {
	if kind == ca.KindAgent {
		return wire.PathAgentHello
	}
	return wire.PathNodeHello
}

func (w *world) actor(kind, id string, cert *tls.Certificate) *actor {
	a := &actor{name: kind, id: id}
	a.cert.Store(cert)
	a.Client = w.client(wire.ClientOptions{Certificate: a.cert.Load, Generation: a.generation.Load})
	return a
}

// signed is a leaf as this master would have signed it some time ago.
func (w *world) signed(kind, id string, ago time.Duration) *tls.Certificate {
	w.t.Helper()
	past, err := ca.Open(w.caDir, clock.NewFake(w.env.Clock.Now().Add(-ago)))
	if err != nil {
		w.t.Fatal(err)
	}
	key, csr := newKey(w.t)
	chain, _, err := past.Sign(csr, ca.Identity{Kind: kind, Project: catalog.DefaultProject, ID: id})
	if err != nil {
		w.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key}
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if !wire.HasCode(err, code) {
		t.Errorf("%s: got %v, want code %s", what, err, code)
	}
}

func TestCAFileIsWhatClientsTrust(t *testing.T) {
	w := newWorld(t)
	text, err := os.ReadFile(filepath.Join(w.caDir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if err := w.client(wire.ClientOptions{CA: block.Bytes}).Report(t.Context(), &wire.Report{}); !wire.HasCode(err, wire.CodeUnauthorized) {
		t.Errorf("got %v", err)
	}
}

// catalogDisk is a small disk with something on it.
func catalogDisk() catalogtest.Disk {
	d := catalogtest.Disk{ID: "d", Data: make([]byte, 8*catalogtest.ChunkSize)}
	for i := range d.Data {
		d.Data[i] = byte(i / catalogtest.ChunkSize * 7)
	}
	return d
}

func (s fakeStaging) PublishMachine(context.Context, string) error { return s.fail }
func (s fakeStaging) RetireMachine(context.Context, string) error  { return s.fail }
