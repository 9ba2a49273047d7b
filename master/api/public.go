package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/audit"
	"github.com/openmigrate/openmigrate/wire"
)

// op is an operation of the public API. Who may call it is in access.
type op struct {
	id, method, path string
	tag              string // in the document, and of scopes
	summary, text    string
	status           int   // of success; 0: 200, or 204 without a body
	body             int64 // bytes that a request may have; 0: smallBody
	content          string
	creates          bool // takes an Idempotency-Key
	responses        map[string]*huma.Response
}

const (
	smallBody  = 64 << 10
	bodyTime   = 10 * time.Second // in which a body must have come
	maxRefText = 256              // bytes of a name or an id in a path
)

func init() {
	huma.NewError = newProblem
	huma.DefaultArrayNullable = false
}

// durationText, addressText, … stand in the document for types that JSON has as text.
type (
	durationText string
	prefixText   string
	addressText  string
	idText       string
)

func text(pattern string, most int, description, example string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: pattern, MaxLength: &most, Description: description, Examples: []any{example}}
}

// Schema implements huma.SchemaProvider.
func (durationText) Schema(huma.Registry) *huma.Schema {
	return text(`^[-+]?(0|([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+)$`, 64, "A time span: numbers with units ns, us, ms, s, m, h.", "1h30m")
}

// Schema implements huma.SchemaProvider.
func (prefixText) Schema(huma.Registry) *huma.Schema {
	return text("", 64, "An address and the length of its network.", "192.0.2.7/24")
}

// Schema implements huma.SchemaProvider.
func (addressText) Schema(huma.Registry) *huma.Schema {
	return text("", 64, "An IP address.", "192.0.2.1")
}

// Schema implements huma.SchemaProvider.
func (idText) Schema(huma.Registry) *huma.Schema {
	return text("^[0-9a-f]{64}$", 64, "An id of 32 bytes, in hexadecimal.", strings.Repeat("0", 64))
}

// humaConfig is what the document says of the whole, and how bodies are read and written.
func humaConfig() huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[wire.Duration](), reflect.TypeFor[durationText]())
	registry.RegisterTypeAlias(reflect.TypeFor[netip.Prefix](), reflect.TypeFor[prefixText]())
	registry.RegisterTypeAlias(reflect.TypeFor[netip.Addr](), reflect.TypeFor[addressText]())
	registry.RegisterTypeAlias(reflect.TypeFor[chunker.ID](), reflect.TypeFor[idText]())
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "OpenMigrate", Version: "1",
				Description: "The API of an OpenMigrate master: for the dashboard, the command line, and scripts. docs/API.md is its guide."},
			Components: &huma.Components{Schemas: registry, SecuritySchemes: map[string]*huma.SecurityScheme{
				"token":   {Type: "http", Scheme: "bearer", Description: "An API token: omt_…"},
				"session": {Type: "apiKey", In: "cookie", Name: accounts.SessionCookieName, Description: "The cookie of somebody who signed in."},
			}},
			Tags: tags(),
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json", RejectUnknownQueryParameters: true,
	}
}

// tagList is what operations are of, and what scopes of tokens name.
var tagList = [][2]string{
	{"access", "Who calls, and tokens of people and scripts."},
	{"projects", "Tenants: machines, keys and tokens are a project's."},
	{"machines", "Source servers and their replication."},
	{"restpoints", "Points in time of all disks of a machine."},
	{"sessions", "Replication sessions: one makes one restpoint."},
	{"jobs", "Work on restpoints that a node does."},
	{"launches", "Machines that are brought up from restpoints: tests, cutovers, rollbacks."},
	{"providers", "Places where machines are brought up."},
	{"nodes", "Hydrators."},
	{"users", "People who sign in."},
	{"audit", "Who changed what."},
	{"webhooks", "Events that are sent to other systems."},
	{"enrolment", "Tokens with which agents and nodes enrol."},
	{"staging", "The bucket and its index."},
	{"operations", "What runs long."},
	{"events", "What changes, as it changes."},
}

func tags() []*huma.Tag {
	list := []*huma.Tag{}
	for _, t := range tagList {
		list = append(list, &huma.Tag{Name: t[0], Description: t[1]})
	}
	return list
}

// public serves everything below PathAPI.
func (s *server) public() (http.Handler, huma.API) {
	r := chi.NewRouter()
	r.Use(s.guard, named)
	missing := func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no %.20s %.200q here", r.Method, r.URL.Path).WithNext(wire.PathDocs+" lists what there is"))
	}
	r.NotFound(missing)
	r.MethodNotAllowed(missing)
	api := humachi.New(r, humaConfig())
	s.register(api)
	r.Get(wire.PathOpenAPI, s.serveDocument)
	for path, file := range map[string]struct {
		contentType string
		b           []byte
	}{"": {"text/html; charset=utf-8", referencePage}, "/reference.js": {"text/javascript; charset=utf-8", referenceScript}, "/reference.css": {"text/css; charset=utf-8", referenceStyle}} {
		r.Get(wire.PathDocs+path, func(w http.ResponseWriter, _ *http.Request) { serveStatic(w, file.contentType, file.b) })
	}
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, wire.NewProblem(http.StatusForbidden, wire.CodeCrossOrigin, "a page of another site may change nothing here").WithNext("open the dashboard under its own address"))
	}))
	return cross.Handler(r), api
}

// guard answers panics, and says what browsers must not do with answers.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		defer func() { s.answerPanic(recover(), w, r.URL.Path) }()
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
		s.Log.Debug("request", "method", r.Method, "path", r.URL.Path, "took", time.Since(start))
	})
}

// add registers an operation.
func add[I, O any](s *server, api huma.API, o op, handle func(context.Context, *I) (*O, error)) {
	least, ok := access[o.id]
	if !ok {
		panic("operation " + o.id + " has no row in access")
	}
	if o.body == 0 {
		o.body = smallBody
	}
	description := o.text
	if description != "" {
		description += " "
	}
	need := "Needs the role " + roleOf[least] + "."
	switch least {
	case anybody:
		need = "For anybody."
	case masters:
		need = "Needs the role admin in all projects (*)."
	}
	h := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary, Tags: []string{o.tag}, DefaultStatus: o.status,
		Description:  description + need,
		MaxBodyBytes: o.body, BodyReadTimeout: bodyTime,
		Security:    []map[string][]string{{"token": {}}, {"session": {}}},
		Extensions:  map[string]any{"x-role": roleOf[least]},
		Middlewares: huma.Middlewares{s.admitPublic(&o)},
	}
	if o.responses != nil {
		h.Responses = o.responses
	} else if o.content != "" {
		h.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
			o.content: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}}
	}
	if least == anybody {
		h.Security, h.Parameters = []map[string][]string{}, nil
	}
	if o.creates {
		h.Middlewares = append(h.Middlewares, s.once(&o))
	}
	huma.Register(api, h, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if later := (*slowDown)(nil); errors.As(err, &later) {
			return nil, later
		}
		if err != nil {
			return nil, s.problem(ctx, failed{path: o.path, caller: person(ctx).String(), limit: o.body, public: true}, err)
		}
		return out, nil
	})
}

// admitPublic lets in whoever may call the operation.
func (s *server) admitPublic(o *op) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humachi.Unwrap(ctx)
		if access[o.id] == anybody {
			next(huma.WithContext(ctx, withOrigin(r.Context(), r.RemoteAddr, o)))
			return
		}
		p, err := s.authenticate(r)
		if err == nil {
			err = p.may(o)
		}
		if err != nil {
			writeProblem(w, s.problem(r.Context(), failed{path: o.path, caller: "nobody", public: true}, err))
			return
		}
		admitted, done, err := s.Accounts.Admit(r.Context(), p.Principal)
		if err != nil {
			writeProblem(w, s.problem(r.Context(), failed{path: o.path, caller: p.String(), public: true}, err))
			return
		}
		defer done()
		next(huma.WithContext(ctx, withOrigin(withPrincipal(admitted, p), r.RemoteAddr, o)))
	}
}

// origin is where a request came from, for the audit log.
type origin struct {
	from string
	op   *op
}

type originKey struct{}

func withOrigin(ctx context.Context, from string, o *op) context.Context {
	return context.WithValue(ctx, originKey{}, &origin{from, o})
}

// originOf is where a request came from, and which operation it asks for.
func originOf(ctx context.Context) *origin {
	if at, _ := ctx.Value(originKey{}).(*origin); at != nil {
		return at
	}
	return &origin{op: &op{}}
}

// changed notes a change that was made: in the log, and in the audit log.
func (s *server) changed(ctx context.Context, kind, id, name string, before, after any) {
	p, at := person(ctx), originOf(ctx)
	s.Log.Info("operator "+at.op.id, "who", p.String(), "what", kind, "id", id, "name", name, "from", at.from)
	if s.Audit == nil {
		return
	}
	project := p.Project
	if access[at.op.id] == masters {
		project = ""
	}
	err := s.Audit.Record(ctx, audit.Change{Project: project, Who: auditWho(p), From: at.from, Operation: at.op.id, Kind: kind, ID: id, Before: before, After: after})
	if err != nil {
		s.Log.Error("a change could not be put into the audit log", "operation", at.op.id, "id", id, "error", err)
	}
}

// Document is the OpenAPI document, as it is served.
func Document() ([]byte, error) {
	s := newServer(Deps{})
	_, api := s.public()
	return document(api.OpenAPI())
}

func document(doc *huma.OpenAPI) ([]byte, error) {
	if err := describe(doc); err != nil {
		return nil, fmt.Errorf("write OpenAPI document: %w", err)
	}
	b, err := doc.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("write OpenAPI document: %w", err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("write OpenAPI document: %w", err)
	}
	if b, err = json.MarshalIndent(v, "", " "); err != nil {
		return nil, fmt.Errorf("write OpenAPI document: %w", err)
	}
	return append(b, '\n'), nil
}
