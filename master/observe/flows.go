package observe

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
)

// flows are counted as they happen.
type flows struct {
	bytes    *prometheus.CounterVec
	sessions *prometheus.CounterVec
	launched *prometheus.CounterVec
	freeze   *prometheus.HistogramVec
	cycle    *prometheus.HistogramVec
	launch   *prometheus.HistogramVec
}

func newFlows(r prometheus.Registerer) flows {
	f := flows{
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "openmigrate_replication_bytes_total",
			Help: "Bytes of disks, by what became of them: read; unchanged since the last restpoint; zero; in staging already (saved by dedup); sent, before compression; " +
				"stored in staging; saved by compression."}, []string{"project", "what"}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "openmigrate_replication_sessions_total", Help: "Replication sessions that ended, by how."}, []string{"project", "state"}),
		launched: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "openmigrate_launches_total", Help: "Launches that came to run, or failed."}, []string{"kind", "result"}),
		freeze: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "openmigrate_freeze_seconds", Help: "How long a restpoint kept writers waiting; of the last cycle in each look.",
			Buckets: []float64{.005, .01, .02, .05, .1, .2, .3, .5, .75, 1, 2}}, []string{"project"}),
		cycle: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "openmigrate_cycle_duration_seconds", Help: "How long making a restpoint took; of the last cycle in each look.",
			Buckets: []float64{1, 5, 15, 30, 60, 300, 900, 3600, 14400, 86400}}, []string{"project"}),
		launch: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "openmigrate_launch_duration_seconds", Help: "From the start of a launch until its machine ran.",
			Buckets: []float64{15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200}}, []string{"kind"}),
	}
	r.MustRegister(f.bytes, f.sessions, f.launched, f.freeze, f.cycle, f.launch)
	return f
}

// maxSession bounds what one session may say that it moved: it is the agent's word.
const maxSession = 1 << 50

// ended counts a session that ended.
func (m *Metrics) ended(s *catalog.Session) {
	project := m.project(s.Project)
	m.flows.sessions.WithLabelValues(project, string(s.State)).Inc()
	within := func(n int64) float64 { return float64(min(max(n, 0), maxSession)) }
	p := &s.Progress
	for what, n := range map[string]float64{
		"read": within(p.Done), "zero": within(p.Zero), "unchanged": within(p.Same), "deduplicated": within(p.Known), "sent": within(p.Sent), "stored": within(p.Stored),
		"compressed-away": max(0, within(p.Sent)-within(p.Stored)),
	} {
		m.flows.bytes.WithLabelValues(project, what).Add(n)
	}
}

// Watch returns db with an eye on sessions: each that ends is counted once, after the transaction in which it did.
func (m *Metrics) Watch(db store.Store) store.Store { return &watched{Store: db, m: m} }

const tableSessions = "sessions" // of master/catalog

type watched struct {
	store.Store
	m *Metrics
}

// Update implements store.Store.
func (d *watched) Update(ctx context.Context, fn func(store.Writer) error) error {
	var w *writer
	err := d.Store.Update(ctx, func(inner store.Writer) error {
		w = &writer{Writer: inner} // fn may run again
		return fn(w)
	})
	if err != nil {
		return err
	}
	for _, s := range w.ended {
		d.m.ended(s)
		if s.State == catalog.SessionDone {
			d.m.restpointEvent(s)
		}
	}
	return nil
}

type writer struct {
	store.Writer
	ended []*catalog.Session
}

// over reports whether a session has ended.
func over(s *catalog.Session) bool {
	return s.State == catalog.SessionDone || s.State == catalog.SessionFailed || s.State == catalog.SessionExpired
}

// Put implements store.Writer. Whether a row can be read is not its business: who reads it will say so.
func (w *writer) Put(table string, key, value []byte) error {
	if table != tableSessions {
		return w.Writer.Put(table, key, value)
	}
	var now, was catalog.Session
	if json.Unmarshal(value, &now) == nil && over(&now) {
		b, err := w.Get(table, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || json.Unmarshal(b, &was) == nil && !over(&was) {
			w.ended = append(w.ended, &now)
		}
	}
	return w.Writer.Put(table, key, value)
}
