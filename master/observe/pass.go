package observe

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// seen is what earlier passes have counted.
type seen struct {
	begun    bool
	cycles   map[string]string // machine → restpoint of the last cycle that was counted
	launches map[string]string // launch → state in which it was counted last
	states   map[string]string // machine → state of its replication
}

// pass collects what one look finds.
type pass struct {
	m       *Metrics
	now     time.Time
	out     []prometheus.Metric
	failed  float64
	overdue []standing
}

// standing is a machine's.
type standing struct {
	project, name string
	catalog.Standing
}

// over is by what factor it is above its goal.
func (s *standing) over() float64 {
	if s.Target <= 0 {
		return 0
	}
	return s.RPO.Seconds() / s.Target.Seconds()
}

func (p *pass) gauge(name, help string, v float64, labels ...string) {
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, strings.ToValidUTF8(labels[i+1], "?"))
	}
	g, err := prometheus.NewConstMetric(prometheus.NewDesc("openmigrate_"+name, help, names, nil), prometheus.GaugeValue, v, values...)
	if err != nil { // a bug, and no reason to end
		p.m.Log.Error("a metric could not be made", "name", name, "error", err)
		return
	}
	p.out = append(p.out, g)
}

// try notes that a part could not be read.
func (p *pass) try(ctx context.Context, what string, err error) bool {
	if err != nil && ctx.Err() == nil {
		p.failed++
		p.m.Log.Warn("metrics could not be read; the last ones are missing", "what", what, "error", err)
	}
	return err == nil
}

// Pass looks at everything once.
func (m *Metrics) Pass(ctx context.Context) {
	p := &pass{m: m, now: m.Clock.Now()}
	begin := time.Now()
	if m.Catalog != nil {
		p.projects(ctx)
		p.jobs(ctx)
	}
	if m.Launches != nil {
		p.launches(ctx)
	}
	if m.Store != nil {
		if n, err := m.Store.Size(); p.try(ctx, "store", err) {
			p.gauge("store_size_bytes", "Size of the master's database on disk.", float64(n))
		}
	}
	for name, get := range m.Certificates {
		if c, err := get(); p.try(ctx, "certificate "+name, err) && c.Leaf != nil {
			p.gauge("certificate_expiry_timestamp_seconds", "When a certificate of the master ends.", float64(c.Leaf.NotAfter.Unix()), "certificate", name)
		}
	}
	p.gauge("observation_timestamp_seconds", "When the state that these metrics show was read.", float64(p.now.Unix()))
	p.gauge("observation_duration_seconds", "How long reading it took.", time.Since(begin).Seconds())
	p.gauge("observation_failures", "Parts of the state that could not be read.", p.failed)
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last, m.seen.begun = p.out, true
}

var replicationStates = []string{catalog.Enrolled, catalog.InitialSync, catalog.Protected, catalog.Lagging, catalog.Stalled, catalog.Rescanning, catalog.Paused,
	catalog.Disconnected, catalog.Held}

// totals of a project's label.
type totals struct {
	states            map[string]float64
	rpo, lag          time.Duration
	overGoal, backlog float64
	nodes, hooks      map[string]float64
}

func (p *pass) projects(ctx context.Context) {
	list, err := p.m.Catalog.Projects(ctx)
	if !p.try(ctx, "projects", err) {
		return
	}
	slices.SortFunc(list, func(a, b catalog.Project) int { return cmp.Compare(a.ID, b.ID) })
	all := map[string]*totals{}
	cycles, states := map[string]string{}, map[string]string{}
	for _, project := range list {
		label := p.m.project(project.ID)
		t := all[label]
		if t == nil {
			t = &totals{states: map[string]float64{}, nodes: map[string]float64{}, hooks: map[string]float64{}}
			all[label] = t
		}
		p.machines(ctx, project.ID, label, t, cycles, states)
		if p.m.Nodes != nil {
			nodes, err := p.m.Nodes.Nodes(ctx, project.ID)
			if p.try(ctx, "nodes", err) {
				for i := range nodes {
					t.nodes[nodes[i].State(p.now)]++
				}
			}
		}
		if p.m.Webhooks != nil {
			hooks, err := p.m.Webhooks.List(ctx, project.ID)
			if p.try(ctx, "webhooks", err) {
				for i := range hooks {
					switch h := &hooks[i]; {
					case h.Disabled != "":
						t.hooks["given-up"]++
					case !h.Failing.IsZero():
						t.hooks["failing"]++
					case h.Enabled:
						t.hooks["working"]++
					}
				}
			}
		}
	}
	p.m.mu.Lock()
	if p.failed > 0 { // what could not be read was counted all the same
		keep(cycles, p.m.seen.cycles)
		keep(states, p.m.seen.states)
	}
	p.m.seen.cycles, p.m.seen.states = cycles, states
	p.m.mu.Unlock()
	for label, t := range all {
		for _, state := range replicationStates {
			p.gauge("machines", "Machines by the state of their replication.", t.states[state], "project", label, "state", state)
		}
		p.gauge("rpo_worst_seconds", "Age of what the newest restpoint holds, of the machine where it is oldest.", t.rpo.Seconds(), "project", label)
		p.gauge("lag_worst_seconds", "How overdue the next restpoint is, of the machine where it is most.", t.lag.Seconds(), "project", label)
		p.gauge("machines_over_goal", "Machines whose RPO is above its goal.", t.overGoal, "project", label)
		p.gauge("backlog_bytes", "Bytes of disks that are in no restpoint yet.", t.backlog, "project", label)
		for _, state := range []string{"running", "away", "frozen", "revoked"} {
			p.gauge("nodes", "Hydrators by state.", t.nodes[state], "project", label, "state", state)
		}
		for _, state := range []string{"working", "failing", "given-up"} {
			p.gauge("webhooks", "Webhooks by how their endpoints do.", t.hooks[state], "project", label, "state", state)
		}
	}
	p.each()
}

// keep adds to new what only old has.
func keep(now, old map[string]string) {
	for k, v := range old {
		if _, ok := now[k]; !ok {
			now[k] = v
		}
	}
}

// machines adds a project's machines to its totals.
func (p *pass) machines(ctx context.Context, project, label string, t *totals, cycles, states map[string]string) {
	machines, err := p.m.Catalog.Machines(ctx, project)
	if !p.try(ctx, "machines", err) {
		return
	}
	p.m.mu.Lock()
	begun, counted, before := p.m.seen.begun, p.m.seen.cycles, p.m.seen.states
	p.m.mu.Unlock()
	for i := range machines {
		m := &machines[i]
		s := standing{project: label, name: m.Name, Standing: m.Standing(p.now)}
		t.states[s.State]++
		if states[m.ID] = s.State; begun && before[m.ID] != s.State {
			p.machineEvent(m, &s.Standing, before[m.ID])
		}
		t.rpo, t.lag = max(t.rpo, s.RPO), max(t.lag, s.Lag)
		t.backlog += float64(s.Backlog)
		if s.over() > 1 {
			t.overGoal++
		}
		p.overdue = append(p.overdue, s)
		if c := m.Report.Cycle; c != nil {
			cycles[m.ID] = c.Restpoint
			if begun && counted[m.ID] != c.Restpoint {
				p.m.flows.freeze.WithLabelValues(label).Observe(time.Duration(c.Frozen).Seconds())
				p.m.flows.cycle.WithLabelValues(label).Observe(time.Duration(c.Duration).Seconds())
			}
		}
	}
}

// each shows single machines: as many as there is room for, the worst first.
func (p *pass) each() {
	slices.SortFunc(p.overdue, func(a, b standing) int {
		return cmp.Or(cmp.Compare(b.over(), a.over()), cmp.Compare(a.project, b.project), cmp.Compare(a.name, b.name))
	})
	seen := map[[2]string]bool{}
	hidden := 0
	for _, s := range p.overdue {
		k := [2]string{s.project, s.name}
		if len(seen) >= maxMachines || seen[k] { // a name stands once in a project, but projects may share a label
			hidden++
			continue
		}
		seen[k] = true
		labels := []string{"project", s.project, "machine", s.name}
		p.gauge("machine_rpo_seconds", "Age of what a machine's newest restpoint holds.", s.RPO.Seconds(), labels...)
		p.gauge("machine_rpo_goal_seconds", "RPO above which a machine lags; 0: it has none.", s.Target.Seconds(), labels...)
		p.gauge("machine_lag_seconds", "How overdue a machine's next restpoint is.", s.Lag.Seconds(), labels...)
		p.gauge("machine_backlog_bytes", "Bytes of a machine's disks that are in no restpoint yet.", float64(s.Backlog), labels...)
		p.gauge("machine_throughput_bytes_per_second", "Bytes that a machine puts into staging per second.", float64(s.Throughput), labels...)
	}
	p.gauge("machines_without_series", "Machines that have no metrics of their own, because there are too many.", float64(hidden))
}

func (p *pass) jobs(ctx context.Context) {
	list, err := p.m.Catalog.Jobs(ctx)
	if !p.try(ctx, "jobs", err) {
		return
	}
	type key struct{ kind, state string }
	count := map[key]float64{}
	var oldest time.Duration
	for i := range list {
		j := &list[i]
		if !j.Ended.IsZero() {
			continue
		}
		state := "queued"
		if j.Holder != "" {
			state = "running"
		} else {
			oldest = max(oldest, p.now.Sub(j.Created))
		}
		count[key{j.Kind, state}]++
	}
	for k, n := range count {
		p.gauge("jobs", "Jobs that nodes do or are to do.", n, "kind", k.kind, "state", k.state)
	}
	p.gauge("job_queue_oldest_seconds", "How long the oldest job waits that no node has taken.", oldest.Seconds())
}

func (p *pass) launches(ctx context.Context) {
	list, err := p.m.Launches.List(ctx, "")
	if !p.try(ctx, "launches", err) {
		return
	}
	p.m.mu.Lock()
	begun, counted := p.m.seen.begun, p.m.seen.launches
	p.m.mu.Unlock()
	type key struct{ kind, state string }
	count := map[key]float64{}
	now := map[string]string{}
	for i := range list {
		l := &list[i]
		count[key{l.Kind, l.State}]++
		now[l.ID] = l.State
		if !begun || counted[l.ID] == l.State {
			continue
		}
		p.launchEvent(l, counted[l.ID])
		switch {
		case l.State == wire.LaunchFailed:
			p.m.flows.launched.WithLabelValues(l.Kind, l.State).Inc()
		case l.Took > 0 && !hadRun(counted[l.ID]):
			p.m.flows.launched.WithLabelValues(l.Kind, wire.LaunchRunning).Inc()
			p.m.flows.launch.WithLabelValues(l.Kind).Observe(time.Duration(l.Took).Seconds())
		}
	}
	for k, n := range count {
		p.gauge("launches", "Launches by kind and state.", n, "kind", k.kind, "state", k.state)
	}
	p.m.mu.Lock()
	p.m.seen.launches = now
	p.m.mu.Unlock()
}

// hadRun reports whether a launch in a state had run before, or runs.
func hadRun(state string) bool {
	switch state {
	case wire.LaunchRunning, wire.LaunchReverting, wire.LaunchReverted, wire.LaunchFinalized:
		return true
	}
	return false
}
