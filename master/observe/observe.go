// Package observe measures the master and what it knows of agents, nodes and launches, for Prometheus. docs/OPERATING.md lists the metrics.
//
// Agents and nodes open no port: what is known of them is what they report. The state of everything is read in passes (Run), and a scrape shows
// the last one, so however often somebody scrapes, the store is read no more. What flows (bytes, sessions, freezes, launches) is counted from the
// differences between passes and from the rows of sessions as they end (Watch). Labels are bounded: projects and machines beyond a number share
// one, and no text that an agent chose is a label but its machine's name. A Metrics may be used by any number of goroutines.
package observe

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/wire"
)

// Limits of labels.
const (
	maxProjects = 64   // the others are "other"
	maxMachines = 1000 // with metrics of their own: those that are furthest above their goal come first
	other       = "other"
)

const passEvery = 30 * time.Second

// Deps is what is measured. Members may be nil.
type Deps struct {
	Catalog interface {
		Projects(ctx context.Context) ([]catalog.Project, error)
		Machines(ctx context.Context, project string) ([]catalog.Machine, error)
		Jobs(ctx context.Context) ([]catalog.Job, error)
	}
	Nodes interface {
		Nodes(ctx context.Context, project string) ([]identity.Node, error)
	}
	Launches interface {
		List(ctx context.Context, machine string) ([]wire.LaunchInfo, error)
	}
	Webhooks interface {
		List(ctx context.Context, project string) ([]webhook.Hook, error)
	}
	Store interface{ Size() (int64, error) }
	// Certificates are those whose end somebody should know, by name.
	Certificates map[string]func() (*tls.Certificate, error)
	// Emit takes events for webhooks; nil: nobody wants them.
	Emit    func(ctx context.Context, events []Event) error
	Version string
	Clock   clock.Clock
	Log     *slog.Logger
}

// Metrics measures.
type Metrics struct {
	Deps
	registry *prometheus.Registry
	flows    flows
	http     *prometheus.HistogramVec

	mu      sync.Mutex
	last    []prometheus.Metric // of the last pass; guarded by mu
	seen    seen                // guarded by mu
	pending []Event             // guarded by mu
	allowed map[string]bool     // projects with a label of their own; guarded by mu
}

// New makes metrics. Use Watch for the store, then Start with what is measured.
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), allowed: map[string]bool{}}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m)
	m.flows = newFlows(m.registry)
	m.http = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "openmigrate_http_request_duration_seconds", Help: "Time that requests took. Long polls and streams take as long as they wait.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"door", "code"})
	m.registry.MustRegister(m.http)
	return m
}

// Start says what is measured, before Run.
func (m *Metrics) Start(d Deps) {
	if d.Clock == nil {
		d.Clock = clock.Real{}
	}
	if d.Log == nil {
		d.Log = slog.Default()
	}
	m.Deps = d
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "openmigrate_build_info", Help: "1; the label says which version runs.", ConstLabels: prometheus.Labels{"version": d.Version}})
	info.Set(1)
	m.registry.MustRegister(info)
}

// Run looks at everything now and then, until ctx ends.
func (m *Metrics) Run(ctx context.Context) {
	look, flush := time.NewTicker(passEvery), time.NewTicker(flushEvery)
	defer look.Stop()
	defer flush.Stop()
	m.Pass(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			m.Pass(ctx)
		case <-flush.C:
			m.flush(ctx)
		}
	}
}

// Handler answers scrapes. Who may scrape is its caller's business.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError})
}

// Describe implements prometheus.Collector. It says nothing: what a pass finds is not known before (an unchecked collector).
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	for _, metric := range last {
		ch <- metric
	}
}

// project is a project's label.
func (m *Metrics) project(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.allowed[name] {
		return name
	}
	if len(m.allowed) >= maxProjects {
		return other
	}
	m.allowed[name] = true
	return name
}
