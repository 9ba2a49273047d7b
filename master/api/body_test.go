package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/accounts"
	"github.com/openmigrate/openmigrate/master/ca"
	"github.com/openmigrate/openmigrate/wire"
)

func certificate(chain [][]byte, key any) *tls.Certificate {
	return &tls.Certificate{Certificate: chain, PrivateKey: key}
}

// raw speaks HTTP without the manners of wire.Client.
func (w *world) raw(http2 bool) *http.Client {
	w.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(w.ca.Certificate())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: http2}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func problem(t *testing.T, res *http.Response) *wire.Problem {
	t.Helper()
	defer res.Body.Close()
	p := &wire.Problem{}
	if err := json.NewDecoder(res.Body).Decode(p); err != nil {
		t.Fatalf("status %d: %v", res.StatusCode, err)
	}
	if ct := res.Header.Get("Content-Type"); ct != wire.ProblemType || p.Status != res.StatusCode || p.Title == "" || p.Code == "" {
		t.Errorf("not a whole problem: %q %+v", ct, p)
	}
	return p
}

func TestBodies(t *testing.T) {
	w := newWorld(t)
	_, token, err := w.accounts.NewToken(t.Context(), nil, accounts.Token{Project: "default", Name: "admin", Role: accounts.RoleAdmin}, 0)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		body string
		code string // empty: taken
	}{
		"good":          {`{"kind":"node","uses":2}`, ""},
		"white space":   {" {} \n", ""},
		"unknown field": {`{"kind":"node","king":true}`, wire.CodeBadRequest},
		"second":        {`{} {}`, wire.CodeBadRequest},
		"closing brace": {`{} }`, wire.CodeBadRequest},
		"wrong type":    {`{"uses":"many"}`, wire.CodeBadRequest},
		"bad duration":  {`{"valid":"soon"}`, wire.CodeBadRequest},
		"cut":           {`{"kind":`, wire.CodeBadRequest},
		"empty":         {``, wire.CodeBadRequest},
		"not JSON":      {"\x00\xff", wire.CodeBadRequest},
		"deep":          {strings.Repeat("[", 20000), wire.CodeBadRequest},
		"huge":          {`{"kind":"` + strings.Repeat("a", 1<<20) + `"}`, wire.CodeTooLarge},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+wire.PathEnrolTokens, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := w.raw(true).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if tt.code == "" {
				_ = res.Body.Close()
				if res.StatusCode != http.StatusCreated {
					t.Errorf("status %d", res.StatusCode)
				}
				return
			}
			if p := problem(t, res); p.Code != tt.code {
				t.Errorf("got %+v", p)
			}
		})
	}
}

// TestSlowBody sends half a body and then nothing: the caller is told off, or cut off, and holds nothing.
func TestSlowBody(t *testing.T) {
	w := newWorld(t)
	for _, http2 := range []bool{true, false} {
		body, pipe := io.Pipe()
		go func() { _, _ = io.WriteString(pipe, `{"kind":`) }()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+wire.PathEnroll, body)
		if err != nil {
			t.Fatal(err)
		}
		res, err := w.raw(http2).Do(req)
		if err == nil {
			if p := problem(t, res); p.Code != wire.CodeUnavailable || p.Status != http.StatusRequestTimeout {
				t.Errorf("http2 %v: %+v", http2, p)
			}
		}
		if ctx.Err() != nil {
			t.Errorf("http2 %v: the master waited for ever", http2)
		}
		cancel()
		_ = pipe.Close()
	}
}

func TestOddRequests(t *testing.T) {
	w := newWorld(t)
	client := w.raw(true)
	for _, r := range []struct{ method, path string }{
		{"GET", "/"}, {"GET", "/api/v1"}, {"PUT", wire.PathMachines}, {"GET", wire.PathEnroll}, {"POST", "/agent/v1/hello/x"}, {"GET", "/api/v1/machines/a/b/c"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, w.url+r.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if p := problem(t, res); p.Code != wire.CodeNotFound {
			t.Errorf("%s %s: %+v", r.method, r.path, p)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		res, err := client.Get(w.url + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	old := w.raw(true)
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	if _, err := old.Get(w.url + "/healthz"); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
}

func TestStagingOperations(t *testing.T) {
	w := newWorld(t)
	c := w.admin()
	var seen int64
	report, err := c.RunStaging(t.Context(), "check", func(p wire.Progress) { seen = p.Done })
	if err != nil || string(report) != `{"damaged":0}` || seen != 1 {
		t.Errorf("check: %s, progress %d, %v", report, seen, err)
	}
	_, err = c.RunStaging(t.Context(), "rebuild-index", nil)
	if p := (*wire.Problem)(nil); !errors.As(err, &p) || !strings.Contains(p.Detail, "bucket is away") {
		t.Errorf("rebuild-index: %v", err)
	}
	_, err = c.RunStaging(t.Context(), "gc", nil) // panics
	wantCode(t, "a bug in the master", err, wire.CodeInternal)
	if p := (*wire.Problem)(nil); errors.As(err, &p) && (p.Next == "" || strings.Contains(p.Detail, "a bug is")) {
		t.Errorf("panic: %+v", p)
	}
	_, err = c.RunStaging(t.Context(), "format", nil)
	wantCode(t, "unknown operation", err, wire.CodeBadRequest)
	if key, err := c.RecoveryKey(t.Context()); err != nil || key != "AGE" {
		t.Errorf("recovery key %q, %v", key, err)
	}
}

func TestPolicies(t *testing.T) {
	w := newWorld(t)
	a := w.enrol(ca.KindAgent, true)
	c := w.admin()
	for name, p := range map[string]wire.MachinePolicy{
		"too often":   {Interval: ptr(wire.Duration(time.Second - 1))},
		"too seldom":  {Interval: ptr(wire.Duration(maxInterval + 1))},
		"chunk size":  {ChunkSize: ptr(12345)},
		"bandwidth":   {Bandwidth: ptr(int64(-1))},
		"consistency": {Consistency: ptr("perfect")},
		"disks":       {Disks: make([]string, wire.MaxDisks+1)},
		"hours":       {Window: &wire.Window{From: "25:00", To: "26:00"}},
		"weekday":     {Window: &wire.Window{From: "22:00", To: "06:00", Weekdays: []int{7}}},
	} {
		_, err := c.SetPolicy(t.Context(), a.id, p)
		wantCode(t, name, err, wire.CodeBadRequest)
		if p := (*wire.Problem)(nil); errors.As(err, &p) && p.Field == "" {
			t.Errorf("%s: no field is named", name)
		}
	}
	want := wire.MachinePolicy{Bandwidth: ptr(int64(1 << 20)), Window: &wire.Window{From: "22:00", To: "06:00", Weekdays: []int{1, 2}}}
	if _, err := c.SetPolicy(t.Context(), "host", want); err != nil {
		t.Fatal(err)
	}
	now, err := a.Assignment(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if now.Bandwidth != 1<<20 || now.Window == nil || now.Window.From != "22:00" {
		t.Errorf("assignment %+v", now)
	}
	later, err := a.Assignment(t.Context(), now.Version, 0)
	if err != nil || later != nil {
		t.Errorf("an assignment that did not change: %+v, %v", later, err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestOperatorsDay(t *testing.T) {
	w := newWorld(t)
	agent := w.env.NewAgent("web-1")
	c := w.admin()
	sync, err := c.Sync(t.Context(), "web-1")
	if err != nil || !sync.Open {
		t.Fatalf("sync %+v, %v", sync, err)
	}
	disk := catalogDisk()
	first, _ := agent.Replicate(disk)
	disk.Data[0] ^= 1
	second, _ := agent.Replicate(disk)

	list, err := c.Restpoints(t.Context(), "web-1")
	if err != nil || len(list) != 2 || list[0].ID != second || list[0].Size != int64(len(disk.Data)) {
		t.Fatalf("restpoints %+v, %v", list, err)
	}
	latest, err := c.Restpoint(t.Context(), "web-1/latest")
	if err != nil || latest.ID != second {
		t.Errorf("latest %+v, %v", latest, err)
	}
	diff, err := c.Diff(t.Context(), first, second)
	if err != nil || len(diff) != 1 || diff[0].Chunks != 1 {
		t.Errorf("diff %+v, %v", diff, err)
	}
	if err := c.Pin(t.Context(), "web-1/latest", true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, "remove a pinned restpoint", c.RemoveRestpoint(t.Context(), second), wire.CodeConflict)
	if err := c.Pin(t.Context(), second, false); err != nil {
		t.Fatal(err)
	}

	job, err := c.Export(t.Context(), "web-1/latest", ptr(0))
	if err != nil || job.Restpoint == nil || len(job.Keys) == 0 {
		t.Fatalf("export %+v, %v", job, err)
	}
	if _, err := c.RenewJob(t.Context(), job.ID, &wire.Progress{Done: 1}); err != nil {
		t.Error(err)
	}
	_, err = w.person(accounts.RoleOperator).RenewJob(t.Context(), job.ID, &wire.Progress{})
	if err == nil {
		t.Error("somebody else's token renews the job")
	}
	if err := c.ReportJob(t.Context(), job.ID, json.RawMessage(`{"changes":[]}`)); err != nil {
		t.Error(err)
	}
	if b, err := w.env.Catalog.JobReport(t.Context(), job.ID); err != nil || string(b) != `{"changes":[]}` {
		t.Errorf("report %s, %v", b, err)
	}
	if err := c.CompleteJob(t.Context(), job.ID, &wire.JobResult{Chunks: 1}); err != nil {
		t.Error(err)
	}
	if info, err := c.Job(t.Context(), job.ID); err != nil || info.State != "done" {
		t.Errorf("job %+v, %v", info, err)
	}
	_, err = c.Export(t.Context(), second, ptr(7))
	wantCode(t, "a disk that is not there", err, wire.CodeNotFound)
	if err := c.RemoveRestpoint(t.Context(), first); err != nil {
		t.Error(err)
	}
	if _, err := c.Restpoint(t.Context(), first); !wire.HasCode(err, wire.CodeNotFound) {
		t.Errorf("a removed restpoint: %v", err)
	}
}
