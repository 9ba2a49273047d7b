package observe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/wire"
)

// Names are those of all metrics of this program, sorted: what alert rules, the dashboard and the guide are checked against. It measures a master of
// which each thing exists once.
func Names() []string {
	m := New()
	m.Start(Deps{Catalog: one{}, Nodes: one{}, Launches: oneLaunch{}, Webhooks: oneHook{}, Store: one{}, Version: "names", Clock: clock.Real{}, Log: slog.New(slog.DiscardHandler),
		Certificates: map[string]func() (*tls.Certificate, error){"x": func() (*tls.Certificate, error) { return &tls.Certificate{Leaf: &x509.Certificate{}}, nil }}})
	m.Pass(context.Background())
	m.ended(&catalog.Session{State: catalog.SessionDone})
	for _, h := range []interface{ Observe(float64) }{
		m.flows.freeze.WithLabelValues("x"), m.flows.cycle.WithLabelValues("x"), m.flows.launch.WithLabelValues("x"), m.http.WithLabelValues("x", "2xx"),
	} {
		h.Observe(1)
	}
	m.flows.launched.WithLabelValues("x", "x")
	families, err := m.registry.Gather()
	if err != nil {
		return nil // a bug: whoever compares finds nothing
	}
	var names []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "openmigrate_") {
			names = append(names, f.GetName())
		}
	}
	slices.Sort(names)
	return names
}

// one is a master of which each thing exists once.
type one struct{}

func (one) Projects(context.Context) ([]catalog.Project, error) {
	return []catalog.Project{{ID: "x"}}, nil
}
func (one) Machines(context.Context, string) ([]catalog.Machine, error) {
	return []catalog.Machine{{ID: "x", Name: "x", Created: time.Unix(0, 0)}}, nil
}
func (one) Jobs(context.Context) ([]catalog.Job, error)            { return []catalog.Job{{Kind: "x"}}, nil }
func (one) Nodes(context.Context, string) ([]identity.Node, error) { return nil, nil }
func (one) Size() (int64, error)                                   { return 0, nil }

type oneLaunch struct{}

func (oneLaunch) List(context.Context, string) ([]wire.LaunchInfo, error) {
	return []wire.LaunchInfo{{Kind: "x", State: "x"}}, nil
}

type oneHook struct{}

func (oneHook) List(context.Context, string) ([]webhook.Hook, error) { return nil, nil }
