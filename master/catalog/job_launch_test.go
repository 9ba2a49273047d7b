package catalog_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/wire"
)

// TestLaunchJobs: jobs with ids of the caller's choice are made once, go to nodes that can write the provider's volumes, and in the order in which somebody
// waits for them.
func TestLaunchJobs(t *testing.T) {
	e, a, r := replicated(t)
	zero := 0
	hydrate := catalog.JobSpec{ID: "l-hydrate0", Kind: wire.JobHydrate, Restpoint: r, Disk: &zero, Provider: "qemu", Volumes: []wire.Volume{{ID: "v", Path: "/v", Size: 1}}}
	background := hydrate
	background.ID, background.Background = "warm", true
	must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), background))
	for range 2 {
		if j := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), hydrate)); j.ID != "l-hydrate0" {
			t.Errorf("job %s", j.ID)
		}
	}
	convert := catalog.JobSpec{ID: "l-convert", Kind: wire.JobConvert, Machine: a.Machine.ID, Provider: "qemu", Volumes: hydrate.Volumes,
		Convert: &wire.Conversion{Platform: "kvm", Mark: &wire.CopyMark{Secret: "s"}}}
	must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), convert))
	kinds := []string{wire.JobHydrate, wire.JobConvert}
	if j := must[*wire.Job](t)(e.Catalog.LeaseJob(t.Context(), "n", wire.LeaseRequest{Kinds: kinds, Providers: []string{"aws"}})); j != nil {
		t.Errorf("a node without the provider was given %s", j.ID)
	}
	for _, want := range []string{"l-hydrate0", "l-convert", "warm"} {
		j := must[*wire.Job](t)(e.Catalog.LeaseJob(t.Context(), "n", wire.LeaseRequest{Kinds: kinds, Providers: []string{"aws", "qemu"}}))
		if j == nil || j.ID != want || len(j.Volumes) != 1 || j.Provider != "qemu" || (j.Restpoint == nil) != (want == "l-convert") {
			t.Fatalf("leased %+v, want %s", j, want)
		}
	}
	// A refusal is final. A report is kept beside its job, unless it is too large.
	if err := e.Catalog.FailJob(t.Context(), "n", "l-hydrate0", wire.Failure{Code: wire.CodeRefused, Message: "no"}); err != nil {
		t.Fatal(err)
	}
	wantState(t, e, "l-hydrate0", catalog.JobFailed)
	ended := e.Catalog.JobsEnded()
	for id, report := range map[string]string{"l-convert": `{"changes":[]}`, "warm": `"` + strings.Repeat("x", wire.MaxConvertReport) + `"`} {
		if err := e.Catalog.CompleteJob(t.Context(), "n", id, wire.JobResult{Report: json.RawMessage(report)}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-ended:
	default:
		t.Error("nobody was told that jobs ended")
	}
	if j := wantState(t, e, "l-convert", catalog.JobDone); j.Convert != nil || j.Result.Report != nil {
		t.Errorf("a secret or a report stays in the row: %+v", j)
	}
	if b, err := e.Catalog.JobReport(t.Context(), "l-convert"); err != nil || string(b) != `{"changes":[]}` {
		t.Errorf("report %s: %v", b, err)
	}
	if b, err := e.Catalog.JobReport(t.Context(), "warm"); err != nil || b != nil {
		t.Errorf("a report of %d bytes was kept: %v", len(b), err)
	}
}

// TestReportJob: who holds a job that goes on says what it did, and nobody else.
func TestReportJob(t *testing.T) {
	e, _, r := replicated(t)
	must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{ID: "l-serve", Kind: wire.JobServe, Restpoint: r, Provider: "qemu"}))
	report := func(holder, text string) error {
		return e.Catalog.ReportJob(t.Context(), holder, "l-serve", json.RawMessage(text))
	}
	wantCode(t, report("n", `{}`), wire.CodeFenced, "report on a job that nobody has leased")
	if j := must[*wire.Job](t)(e.Catalog.LeaseJob(t.Context(), "n", wire.LeaseRequest{Kinds: []string{wire.JobServe}, Providers: []string{"qemu"}})); j == nil {
		t.Fatal("there was no job")
	}
	wantCode(t, report("m", `{}`), wire.CodeFenced, "report on the job of another")
	wantCode(t, report("n", `"`+strings.Repeat("x", wire.MaxConvertReport)+`"`), wire.CodeTooLarge, "a report that is too large")
	if b, err := e.Catalog.JobReport(t.Context(), "l-serve"); err != nil || b != nil {
		t.Errorf("%s was kept: %v", b, err)
	}
	for _, text := range []string{`{"changes":[]}`, `{"changes":[1]}`} {
		if err := report("n", text); err != nil {
			t.Fatal(err)
		}
		if b, err := e.Catalog.JobReport(t.Context(), "l-serve"); err != nil || string(b) != text {
			t.Errorf("report %s: %v", b, err)
		}
	}
	if err := e.Catalog.CancelJob(t.Context(), "l-serve"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, report("n", `{}`), wire.CodeFenced, "report on a job that was cancelled")
}

func TestLaunchJobsRefused(t *testing.T) {
	e, a, r := replicated(t)
	zero := 0
	v := []wire.Volume{{ID: "v", Path: "/v", Size: 1}}
	for name, s := range map[string]catalog.JobSpec{
		"both targets":       {Kind: wire.JobHydrate, Restpoint: r, Disk: &zero, Target: "x", Volumes: v, Provider: "p"},
		"two volumes":        {Kind: wire.JobHydrate, Restpoint: r, Disk: &zero, Volumes: append(v, v...), Provider: "p"},
		"no disk":            {Kind: wire.JobHydrate, Restpoint: r, Volumes: v, Provider: "p"},
		"no provider":        {Kind: wire.JobHydrate, Restpoint: r, Disk: &zero, Volumes: v},
		"path and serial":    {Kind: wire.JobHydrate, Restpoint: r, Disk: &zero, Volumes: []wire.Volume{{ID: "v", Path: "/v", Serial: "s", Size: 1}}, Provider: "p"},
		"nothing to inspect": {Kind: wire.JobInspect, Restpoint: r},
		"verify and convert": {Kind: wire.JobVerify, Restpoint: r, Convert: &wire.Conversion{}},
		"convert nothing":    {Kind: wire.JobConvert, Machine: a.Machine.ID, Convert: &wire.Conversion{}},
		"id":                 {ID: "a/b", Kind: wire.JobVerify, Restpoint: r},
	} {
		_, err := e.Catalog.CreateJob(t.Context(), s)
		wantCode(t, err, wire.CodeBadRequest, name)
	}
}

func TestKeepRestpoint(t *testing.T) {
	e, _, r := replicated(t)
	for range 2 {
		if err := e.Catalog.KeepRestpoint(t.Context(), r, "launch"); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, e.Catalog.RemoveRestpoint(t.Context(), r), wire.CodeConflict, "remove what a launch keeps")
	wantCode(t, e.Catalog.RemoveMachine(t.Context(), "m"), wire.CodeConflict, "remove its machine")
	for range 2 {
		if err := e.Catalog.LetGoRestpoint(t.Context(), r, "launch"); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Catalog.RemoveRestpoint(t.Context(), r); err != nil {
		t.Error(err)
	}
	wantCode(t, e.Catalog.KeepRestpoint(t.Context(), r, "launch"), wire.CodeNotFound, "keep what is gone")
}
