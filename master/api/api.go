// Package api is the master's one door: HTTP over TLS 1.3 for agents and nodes (client certificates), for people's tools (bearer
// tokens), for whoever enrols (a one-time token in the body), and for copies that call home (a launch's secret in the body).
//
// Every path is in one table with who may call it (routes below); nothing else is served. Handlers decode strictly,
// within limits, and leave every decision to catalog and identity. Errors are wire.Problem documents. A Handler may be
// used by any number of goroutines.
package api

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/audit"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/master/outbox"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/wire"
)

// Staging is what operators may ask of the bucket and its index. Progress is called now and then.
type Staging interface {
	Stats(ctx context.Context) (wire.StagingStats, error)
	Check(ctx context.Context, deep bool, progress func(wire.Progress)) (any, error)
	Collect(ctx context.Context, progress func(wire.Progress)) (any, error)
	Rebuild(ctx context.Context, progress func(wire.Progress)) (any, error)
	NewRecoveryKey(ctx context.Context, hint string) (string, error)
	// PublishMachine and RetireMachine keep the bucket's record of a machine, from which the index can be rebuilt.
	PublishMachine(ctx context.Context, id string) error
	RetireMachine(ctx context.Context, id string) error
}

// Deps is what the handler works on.
type Deps struct {
	Catalog  *catalog.Catalog
	Fleet    *catalog.Fleet // nil: every list of machines reads all their rows
	Identity *identity.Registry
	Accounts *accounts.Service
	Webhooks *webhook.Service
	CA       *ca.CA
	Staging  Staging
	Launches Launches
	DB       store.Store // for what the API itself remembers: answers by idempotency key
	Audit    *audit.Log  // nil: changes are only logged
	Files    Files       // nil: files of restpoints are not read here
	Events   *outbox.Outbox
	// Dashboard serves people's browsers, and passes what is not its own to other; nil: there is none.
	Dashboard func(other http.Handler) (http.Handler, error)
	URL       string // under which agents reach this master; goes into tokens
	OIDC      string // host of the provider through which people can sign in; empty: there is none
	Version   string
	Log       *slog.Logger
}

// server carries the dependencies to the handlers.
type server struct {
	Deps
	enrolling, calling *addresses // those who enrol, and copies that call home
	runs               runs
	keys               keeper
	streams            *streams
	reading            *streams      // of files on restpoints
	stopping           chan struct{} // closed when the master stops
	document           []byte

	counting  sync.Mutex
	counted   *wire.StagingStats // guarded by counting; nil: not yet
	countedAt time.Time          // guarded by counting
}

// who may call a route.
type who int

const (
	anybody who = iota // decides for itself: enrolment, and the call home of a copy
	agents
	nodes
	renewers // agents and nodes whose certificate may have expired
	holders  // nodes, or people with a job of their own
	viewers
	operators
	admins
	masters // admins of all projects, for what belongs to none
)

// route is one operation.
type route struct {
	method, path string
	who          who
	limit        int64 // bytes of body
	handle       func(*server, *call) error
}

// call is one request on its way.
type call struct {
	ctx context.Context
	w   http.ResponseWriter
	r   *http.Request
	id  ca.Identity // agents and nodes
	who *Principal  // people

	hurried bool // the answer has a deadline
}

// holder is the name under which the caller holds jobs.
func (c *call) holder() string {
	if c.who != nil {
		return c.who.Holder()
	}
	return c.id.ID
}

// TLSConfig is what the listener needs: TLS 1.3, and a client certificate that is asked for and judged per path.
func TLSConfig(authority *ca.CA, names []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return authority.Server(names...) },
	}
}

func newServer(d Deps) *server {
	s := &server{Deps: d, enrolling: newAddresses(enrolRate, enrolBurst, maxAddresses), calling: newAddresses(enrolRate, enrolBurst, maxAddresses),
		streams: newStreams(), reading: newReading(), stopping: make(chan struct{})}
	s.runs.tell = func(kind, id, project string) {
		if s.Events != nil {
			s.Events.Publish(outbox.Event{Kind: kind, ID: id, Project: project})
		}
	}
	return s
}

// Handler serves all routes. Close it when its server has stopped.
type Handler struct {
	http.Handler
	s    *server
	stop sync.Once
}

// NewHandler serves all routes.
func NewHandler(d Deps) (*Handler, error) {
	s := newServer(d)
	mux := http.NewServeMux()
	for _, r := range routes() {
		mux.Handle(r.method+" "+r.path, s.wrap(r))
	}
	public, api := s.public()
	var err error
	if s.document, err = document(api.OpenAPI()); err != nil {
		return nil, err
	}
	mux.Handle(wire.PathAPI+"/", public)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /readyz", s.ready)
	var other http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no %.20s %.200q here", r.Method, r.URL.Path))
	})
	if d.Dashboard != nil {
		if other, err = d.Dashboard(other); err != nil {
			return nil, err
		}
	}
	mux.Handle("/", other)
	return &Handler{Handler: mux, s: s}, nil
}

// Stop ends event streams, so that a server that shuts down need not wait for them.
func (h *Handler) Stop() { h.stop.Do(func() { close(h.s.stopping) }) }

// Close stops what runs long, and waits for it.
func (h *Handler) Close() {
	h.Stop()
	h.s.runs.close()
}

// ready answers whether the database can be read. Whoever asks learns nothing else.
func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	if _, err := s.Catalog.Projects(r.Context()); err != nil {
		s.Log.Error("not ready", "error", err)
		writeProblem(w, wire.NewProblem(http.StatusServiceUnavailable, wire.CodeUnavailable, "the database cannot be read"))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// answerPanic answers what a handler panicked with; nil is nothing.
func (s *server) answerPanic(p any, w http.ResponseWriter, path string) {
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	id := rand.Text()[:8]
	s.Log.Error("handler panicked", "id", id, "path", path, "panic", p, "stack", string(debug.Stack()))
	writeProblem(w, wire.NewProblem(http.StatusInternalServerError, wire.CodeInternal, "the master hit a bug").
		WithNext("look for "+id+" in the master's log"))
}

// wrap admits, limits, calls, and answers errors and panics.
func (s *server) wrap(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		c := &call{ctx: r.Context(), w: w, r: r}
		defer c.sent()
		defer func() { s.answerPanic(recover(), w, rt.path) }()
		done, err := s.admit(c, rt)
		if err == nil {
			defer done()
			r.Body = http.MaxBytesReader(w, r.Body, rt.limit)
			err = rt.handle(s, c)
		}
		if err != nil {
			s.answerError(c, rt, err)
		}
		s.Log.Debug("request", "method", rt.method, "path", rt.path, "caller", c.name(), "took", time.Since(start), "error", err)
	})
}

func (c *call) name() string {
	switch {
	case c.who != nil:
		return c.who.String()
	case c.id.ID != "":
		return c.id.Kind + " " + c.id.ID
	}
	return "nobody"
}

func (s *server) answerError(c *call, rt route, err error) {
	writeProblem(c.w, s.problem(c.ctx, failed{path: rt.path, caller: c.name(), limit: rt.limit, public: rt.who != anybody}, err))
}

// decode reads a JSON body: one document, no unknown fields.
func (c *call) decode(v any) error {
	d := json.NewDecoder(c.r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, end := d.Token(); end == nil {
			err = errors.New("something follows the document")
		} else if !errors.Is(end, io.EOF) {
			err = end
		}
	}
	return bodyProblem(err)
}

// body reads a binary body.
func (c *call) body() ([]byte, error) {
	b, err := io.ReadAll(c.r.Body)
	return b, bodyProblem(err)
}

// bodyProblem blames the caller for a body that cannot be read.
func bodyProblem(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil, errors.As(err, &tooLarge):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return wire.NewProblem(http.StatusRequestTimeout, wire.CodeUnavailable, "the body took too long")
	}
	return wire.NewProblem(http.StatusBadRequest, wire.CodeBadRequest, "body: %.300s", strings.TrimPrefix(err.Error(), "json: "))
}

// torn returns why the caller was shut out while the request was under way: whatever it asked for, it gets nothing.
func (c *call) torn() error {
	var p *wire.Problem
	if errors.As(context.Cause(c.ctx), &p) {
		return p
	}
	return nil
}

// answer writes v as JSON.
func (c *call) answer(status int, v any) error {
	if err := c.torn(); err != nil {
		return err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(b) // the caller may be gone
	return nil
}

// binary writes bytes.
func (c *call) binary(b []byte) error {
	if err := c.torn(); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = c.w.Write(b) // the caller may be gone
	return nil
}

// answerWithin gives the answer, and what is done until then, a deadline: the server has none of its own, because of long polls.
func (c *call) answerWithin(d time.Duration) {
	c.hurried = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(d)) == nil
}

// sent takes the deadline away again when the answer has one, and is out: over HTTP/1.1 it would be the next request's, too.
func (c *call) sent() {
	if !c.hurried {
		return
	}
	rc := http.NewResponseController(c.w)
	_ = rc.Flush() // the caller may be gone
	_ = rc.SetWriteDeadline(time.Time{})
}

// done answers with nothing.
func (c *call) done() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// wait reads a ?wait= or body's wish for a long poll within MaxWait.
func wait(d time.Duration) time.Duration { return min(max(d, 0), wire.MaxWait) }
