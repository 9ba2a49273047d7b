package observe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/identity"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fleet is what a master knows.
type fleet struct {
	projects []catalog.Project
	machines map[string][]catalog.Machine
	jobs     []catalog.Job
	launches []wire.LaunchInfo
	hooks    []webhook.Hook
	fail     error
}

func (f *fleet) Projects(context.Context) ([]catalog.Project, error) { return f.projects, f.fail }
func (f *fleet) Machines(_ context.Context, p string) ([]catalog.Machine, error) {
	return f.machines[p], f.fail
}
func (f *fleet) Jobs(context.Context) ([]catalog.Job, error) { return f.jobs, f.fail }
func (f *fleet) Nodes(context.Context, string) ([]identity.Node, error) {
	return []identity.Node{{LastSeen: noon}, {LastSeen: noon.Add(-time.Hour)}}, f.fail
}
func (f *fleet) Size() (int64, error) { return 4096, f.fail }

type launches struct{ *fleet }

func (f launches) List(context.Context, string) ([]wire.LaunchInfo, error) {
	return f.launches, f.fail
}

type hooks struct{ *fleet }

func (f hooks) List(context.Context, string) ([]webhook.Hook, error) { return f.hooks, f.fail }

func machine(id, name string, age time.Duration) catalog.Machine {
	return catalog.Machine{ID: id, Name: name, LastSeen: noon, LastRestpoint: "r" + id, LastInstant: noon.Add(-age), Interval: time.Minute,
		Report: wire.Report{Cycle: &wire.CycleReport{Restpoint: "r" + id, Frozen: wire.Duration(40 * time.Millisecond), Duration: wire.Duration(20 * time.Second)}}}
}

func sample() *fleet {
	return &fleet{
		projects: []catalog.Project{{ID: "default"}},
		machines: map[string][]catalog.Machine{"default": {machine("1", "db1", 30*time.Second), machine("2", "web1", time.Hour)}},
		jobs: []catalog.Job{{Kind: wire.JobVerify, Created: noon.Add(-5 * time.Minute)}, {Kind: wire.JobVerify, Holder: "node-1", Created: noon},
			{Kind: wire.JobVerify, Created: noon.Add(-time.Hour), Ended: noon}},
		launches: []wire.LaunchInfo{{ID: "l1", Kind: wire.LaunchTest, State: wire.LaunchHydrating}, {ID: "l2", Kind: wire.LaunchTest, State: wire.LaunchRunning, Took: wire.Duration(time.Minute)}},
		hooks:    []webhook.Hook{{Enabled: true}, {Enabled: true, Failing: noon}, {Disabled: "gone"}},
	}
}

func metrics(t *testing.T, f *fleet) *Metrics {
	t.Helper()
	m := New()
	m.Start(Deps{Catalog: f, Nodes: f, Launches: launches{f}, Webhooks: hooks{f}, Store: f, Version: "v1", Clock: clock.NewFake(noon),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Certificates: map[string]func() (*tls.Certificate, error){"server": func() (*tls.Certificate, error) {
			return &tls.Certificate{Leaf: &x509.Certificate{NotAfter: noon.Add(time.Hour)}}, nil
		}}})
	m.Pass(t.Context())
	return m
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func want(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			var near []string
			for l := range strings.Lines(text) {
				if strings.HasPrefix(l, name) {
					near = append(near, l)
				}
			}
			t.Errorf("no %s; there are\n%s", line, strings.Join(near, ""))
		}
	}
}

func TestMetrics(t *testing.T) {
	m := metrics(t, sample())
	want(t, scrape(t, m),
		`openmigrate_machines{project="default",state="protected"} 1`, `openmigrate_machines{project="default",state="stalled"} 1`, `openmigrate_machines{project="default",state="paused"} 0`,
		`openmigrate_rpo_worst_seconds{project="default"} 3600`, `openmigrate_machines_over_goal{project="default"} 1`, `openmigrate_machine_rpo_seconds{machine="db1",project="default"} 30`,
		`openmigrate_machine_rpo_goal_seconds{machine="db1",project="default"} 120`, `openmigrate_machines_without_series 0`, `openmigrate_jobs{kind="verify",state="queued"} 1`,
		`openmigrate_jobs{kind="verify",state="running"} 1`, `openmigrate_job_queue_oldest_seconds 300`, `openmigrate_nodes{project="default",state="running"} 1`, `openmigrate_nodes{project="default",state="away"} 1`,
		`openmigrate_launches{kind="test",state="running"} 1`, `openmigrate_webhooks{project="default",state="given-up"} 1`, `openmigrate_webhooks{project="default",state="failing"} 1`,
		`openmigrate_store_size_bytes 4096`, fmt.Sprintf(`openmigrate_certificate_expiry_timestamp_seconds{certificate="server"} %g`, float64(noon.Add(time.Hour).Unix())),
		`openmigrate_observation_failures 0`, `openmigrate_build_info{version="v1"} 1`)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestCounts: what was there before the first look is not counted, and nothing is counted twice.
func TestCounts(t *testing.T) {
	f := sample()
	m := metrics(t, f)
	if text := scrape(t, m); strings.Contains(text, "openmigrate_freeze_seconds_count") || strings.Contains(text, "openmigrate_launches_total{") {
		t.Error("what was there before is counted")
	}
	f.machines["default"][0].Report.Cycle = &wire.CycleReport{Restpoint: "r9", Frozen: wire.Duration(300 * time.Millisecond), Duration: wire.Duration(time.Minute)}
	f.launches[0].State, f.launches[0].Took = wire.LaunchRunning, wire.Duration(90*time.Second)
	f.launches = append(f.launches, wire.LaunchInfo{ID: "l3", Kind: wire.LaunchCutover, State: wire.LaunchFailed})
	f.launches[1].State = wire.LaunchReverted // it had run
	for range 3 {
		m.Pass(t.Context())
	}
	want(t, scrape(t, m), `openmigrate_freeze_seconds_count{project="default"} 1`, `openmigrate_freeze_seconds_bucket{project="default",le="0.3"} 1`, `openmigrate_freeze_seconds_bucket{project="default",le="0.2"} 0`,
		`openmigrate_cycle_duration_seconds_sum{project="default"} 60`, `openmigrate_launches_total{kind="test",result="running"} 1`, `openmigrate_launches_total{kind="cutover",result="failed"} 1`,
		`openmigrate_launch_duration_seconds_sum{kind="test"} 90`)
}

// TestLabelsAreBounded: a fleet without end, with names that agents chose.
func TestLabelsAreBounded(t *testing.T) {
	f := &fleet{machines: map[string][]catalog.Machine{}}
	for i := range 200 {
		p := fmt.Sprintf("p%03d", i)
		f.projects = append(f.projects, catalog.Project{ID: p})
		for k := range 50 {
			f.machines[p] = append(f.machines[p], machine(fmt.Sprint(i, ".", k), fmt.Sprintf("m\"{}\n\u202e\xff%d", k), time.Duration(i)*time.Second))
		}
	}
	m := metrics(t, f)
	text := scrape(t, m)
	series := map[string]int{}
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			series[line[:strings.IndexAny(line, "{ ")]]++
		}
	}
	if n := series["openmigrate_machine_rpo_seconds"]; n != maxMachines {
		t.Errorf("%d machines have metrics of their own", n)
	}
	if n := series["openmigrate_rpo_worst_seconds"]; n != maxProjects+1 {
		t.Errorf("%d projects have metrics of their own", n)
	}
	want(t, text, `openmigrate_rpo_worst_seconds{project="other"} 199`, `openmigrate_machines_without_series 9000`)
	if !strings.Contains(text, `project="p063"`) || strings.Contains(text, `project="p064"`) {
		t.Error("not the first projects have labels of their own")
	}
	for i := range 1000 {
		m.ended(&catalog.Session{Project: fmt.Sprint("q", i), State: catalog.SessionDone})
		Door(fmt.Sprint("/", i))
	}
	if n := strings.Count(scrape(t, m), "openmigrate_replication_sessions_total{"); n != 1 {
		t.Errorf("%d projects have counts of their own", n)
	}
	t.Logf("%d series, %d bytes", strings.Count(text, "\n"), len(text))
}

func TestFailuresShow(t *testing.T) {
	f := sample()
	m := metrics(t, f)
	f.fail = errors.New("the database cannot be read")
	m.Pass(t.Context())
	text := scrape(t, m)
	want(t, text, `openmigrate_observation_failures 4`)
	if strings.Contains(text, "openmigrate_machines{") {
		t.Error("old machines are shown as if they were new")
	}
	f.fail = nil
	m.Pass(t.Context())
	if text := scrape(t, m); strings.Contains(text, "openmigrate_freeze_seconds_count") {
		t.Error("old cycles are counted as if they were new")
	}
}

func TestSessionsAreCountedOnce(t *testing.T) {
	m := New()
	bolt, err := boltstore.Open(filepath.Join(t.TempDir(), "db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bolt.Close(); err != nil {
			t.Error(err)
		}
	}()
	db := m.Watch(bolt)
	s := catalog.Session{ID: "s1", Project: "default", State: catalog.SessionOpen}
	rolled := errors.New("no")
	put := func(end error) {
		b, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(t.Context(), func(w store.Writer) error {
			if err := w.Put("sessions", []byte(s.ID), b); err != nil {
				return err
			}
			return end
		})
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
	}
	put(nil)
	s.State = catalog.SessionDone
	s.Progress = wire.Progress{Done: 1000, Zero: 100, Same: 600, Known: 100, Sent: 200, Stored: 50}
	put(rolled)
	put(nil)
	put(nil)
	s = catalog.Session{ID: "s2", Project: "default", State: catalog.SessionExpired, Progress: wire.Progress{Done: -5, Sent: 1, Stored: 1 << 62}}
	put(nil)
	if err := db.Update(t.Context(), func(w store.Writer) error { return w.Put("sessions", []byte("bad"), []byte("{")) }); err != nil {
		t.Fatal(err)
	}
	text := scrape(t, m)
	want(t, text, `openmigrate_replication_sessions_total{project="default",state="done"} 1`, `openmigrate_replication_sessions_total{project="default",state="expired"} 1`,
		`openmigrate_replication_bytes_total{project="default",what="read"} 1000`, `openmigrate_replication_bytes_total{project="default",what="deduplicated"} 100`,
		`openmigrate_replication_bytes_total{project="default",what="unchanged"} 600`, `openmigrate_replication_bytes_total{project="default",what="sent"} 201`,
		`openmigrate_replication_bytes_total{project="default",what="compressed-away"} 150`, fmt.Sprintf(`openmigrate_replication_bytes_total{project="default",what="stored"} %g`, float64(maxSession+50)))
}

func TestRequests(t *testing.T) {
	m := New()
	h := m.Requests(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/x" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write([]byte("x"))
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	}))
	server := httptest.NewServer(h)
	defer server.Close()
	for _, path := range []string{"/api/v1/x", "/agent/v1/offer", "/whatever/" + strings.Repeat("x", 100), "/"} {
		resp, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	want(t, scrape(t, m), `openmigrate_http_request_duration_seconds_count{code="4xx",door="api"} 1`, `openmigrate_http_request_duration_seconds_count{code="2xx",door="agent"} 1`,
		`openmigrate_http_request_duration_seconds_count{code="2xx",door="other"} 2`)
}

func TestRunEnds(t *testing.T) {
	m := metrics(t, sample())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	cancel()
	<-done
}
