package catalog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

var allKinds = []string{wire.JobProve, wire.JobVerify, wire.JobHydrate}

func lease(t *testing.T, e *catalogtest.Env, node string) *wire.Job {
	t.Helper()
	return must[*wire.Job](t)(e.Catalog.LeaseJob(t.Context(), node, wire.LeaseRequest{Kinds: allKinds}))
}

func wantState(t *testing.T, e *catalogtest.Env, id string, want catalog.JobState) catalog.Job {
	t.Helper()
	j := must[catalog.Job](t)(e.Catalog.Job(t.Context(), id))
	if j.State != want {
		t.Errorf("job is %s, want %s", j.State, want)
	}
	return j
}

// replicated is a world with one restpoint, and nothing left to prove.
func replicated(t *testing.T) (*catalogtest.Env, *catalogtest.Agent, string) {
	t.Helper()
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	r, _ := a.Replicate(disk("d", 1, 3*chunk, 0, 1))
	prove(t, e)
	return e, a, r
}

func TestProve(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	a.Replicate(disk("d", 1, 3*chunk, 0, 1))
	if n := prove(t, e); n != 1 {
		t.Errorf("%d packs to prove, want 1", n)
	}
	a.Replicate(disk("d", 1, 3*chunk, 0, 1))
	if n := prove(t, e); n != 0 {
		t.Errorf("%d packs to prove a second time", n)
	}
	// A pack of a session that was fenced is proven when a later one uses it.
	d := disk("d", 2, 3*chunk, 0, 1)
	sent(t, a, d)
	e.Pass(91 * time.Second)
	if n := prove(t, e); n != 0 {
		t.Errorf("%d packs of a fenced session to prove", n)
	}
	a.Replicate(d)
	if n := prove(t, e); n != 1 {
		t.Errorf("%d packs to prove that a fenced session had sent, want 1", n)
	}
}

// TestProofsWait: packs of many restpoints join one proof while no node runs, and whatever somebody waits for comes first.
func TestProofsWait(t *testing.T) {
	e := catalogtest.New(t, nil)
	a, other := e.NewAgent("m"), e.NewAgent("n")
	seed := uint64(0)
	replicate := func(a *catalogtest.Agent) (id string) {
		seed++
		id, _ = a.Replicate(disk("d", seed, 3*chunk, 0, 1))
		e.Tick()
		return id
	}
	proof := func(packs int) {
		t.Helper()
		if j := lease(t, e, "n1"); j == nil || j.Kind != wire.JobProve || len(j.Packs) != packs {
			t.Errorf("want a proof of %d packs: %+v", packs, j)
		}
	}
	for range 2 {
		replicate(a)
	}
	verify := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: replicate(a)}))
	if j := lease(t, e, "n1"); j.ID != verify.ID {
		t.Errorf("the first job is a %s", j.Kind)
	}
	proof(3)
	replicate(a) // joins nothing that was begun
	proof(1)
	replicate(a) // nor what is another machine's
	replicate(other)
	proof(1)
	proof(1)
	if j := lease(t, e, "n1"); j != nil {
		t.Errorf("another job: %+v", j)
	}
}

// TestLeaseAgain: a caller that asks again while it has a job never got that: it is given it once more, and nobody else is.
func TestLeaseAgain(t *testing.T) {
	e, _, r := replicated(t)
	job := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: r})).ID
	ask := func(node, lane string) string {
		t.Helper()
		if j := must[*wire.Job](t)(e.Catalog.LeaseJob(t.Context(), node, wire.LeaseRequest{Kinds: allKinds, Lane: lane})); j != nil {
			return j.ID
		}
		return ""
	}
	if got := ask("n", "0"); got != job {
		t.Fatalf("leased %q", got)
	}
	for _, other := range [][2]string{{"n", "1"}, {"n", ""}, {"other", "0"}} {
		if got := ask(other[0], other[1]); got != "" {
			t.Errorf("lane %s of %s was given %s", other[1], other[0], got)
		}
	}
	// The master that gave it away may be another one by now.
	e.Restart()
	for attempt := 2; attempt <= 3; attempt++ {
		if got := ask("n", "0"); got != job {
			t.Errorf("attempt %d: %q", attempt, got)
		}
		if j := wantState(t, e, job, catalog.JobLeased); j.Attempts != attempt {
			t.Errorf("attempt %d of %d", j.Attempts, attempt)
		}
	}
	if got := ask("n", "0"); got != "" {
		t.Error("more often than it may")
	}
	e.Pass(2 * time.Minute)
	e.Tick()
	wantState(t, e, job, catalog.JobFailed)
}

// TestNodeStarted: what a node's last process had goes to whoever asks next, as one more attempt, and nobody else's job does.
func TestNodeStarted(t *testing.T) {
	e, _, r := replicated(t)
	verify := func() string {
		return must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: r})).ID
	}
	mine, other := verify(), verify()
	if a, b := lease(t, e, "n1"), lease(t, e, "n2"); a.ID != mine || b.ID != other {
		t.Fatalf("leased %s and %s", a.ID, b.ID)
	}
	for try := 1; try <= 3; try++ {
		if err := e.Catalog.NodeStarted(t.Context(), "n1"); err != nil {
			t.Fatal(err)
		}
		if try == 3 {
			break
		}
		if _, err := e.Catalog.RenewJob(t.Context(), "n1", mine, wire.Progress{}); !wire.HasCode(err, wire.CodeFenced) {
			t.Errorf("the process that is gone renews: %v", err)
		}
		if j := wantState(t, e, mine, catalog.JobQueued); j.Failure == nil || j.Attempts != try {
			t.Errorf("%+v", j)
		}
		if j := lease(t, e, "n1"); j == nil || j.ID != mine {
			t.Fatalf("leased %+v", j)
		}
	}
	if j := wantState(t, e, mine, catalog.JobFailed); j.Attempts != 3 {
		t.Errorf("%d attempts", j.Attempts)
	}
	wantState(t, e, other, catalog.JobLeased)
}

func TestProveFails(t *testing.T) {
	e := catalogtest.New(t, nil)
	a := e.NewAgent("m")
	a.Replicate(disk("d", 1, 3*chunk, 0, 1))
	e.Tick()
	for i := range 3 {
		j := lease(t, e, "node")
		if j == nil {
			t.Fatalf("no job at attempt %d", i+1)
		}
		if err := e.Catalog.FailJob(t.Context(), "node", j.ID, wire.Failure{Code: wire.CodeStaging, Message: "slow"}); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			if f := wantState(t, e, j.ID, catalog.JobFailed); f.Failure == nil || f.Failure.Message != "slow" {
				t.Errorf("failure %+v", f.Failure)
			}
		}
	}
	if j := lease(t, e, "node"); j != nil {
		t.Error("a job was leased more often than it may be")
	}
	// The next restpoint that needs these packs has them looked at again.
	a.ForgetBase()
	a.Replicate(disk("d", 1, 3*chunk, 0, 1))
	if n := prove(t, e); n != 1 {
		t.Errorf("%d packs to prove, want 1", n)
	}
}

func TestProveFindsDamage(t *testing.T) {
	e := catalogtest.New(t, nil)
	a, b := e.NewAgent("a"), e.NewAgent("b")
	d := disk("d", 1, 3*chunk, 0, 1)
	a.Replicate(d)
	e.Tick()
	j := lease(t, e, "node")
	wantCode(t, e.Catalog.CompleteJob(t.Context(), "node", j.ID, wire.JobResult{Damaged: 1}), wire.CodeConflict, "damage that was not reported")
	pack, err := format.ParsePackID(j.Packs[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	ids := must[[]chunker.ID](t)(e.Catalog.PackContents(t.Context(), must[catalog.Pack](t)(e.Catalog.Pack(t.Context(), pack)).Seq))
	if err := e.Catalog.JobQuarantine(t.Context(), "node", j.ID, []wire.Damage{{Pack: j.Packs[0].ID, ID: ids[0].String()}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Catalog.CompleteJob(t.Context(), "node", j.ID, wire.JobResult{Damaged: 1}); err != nil {
		t.Fatal(err)
	}
	if n := unknown(t, b, d); n != 1 {
		t.Errorf("%d unknown after a pack was proven but for one entry, want 1", n)
	}
}

func TestLease(t *testing.T) {
	e, _, r := replicated(t)
	spec := catalog.JobSpec{Kind: wire.JobHydrate, Restpoint: "m/latest", Target: "v"}
	j := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), spec))
	if got := must[*wire.Job](t)(e.Catalog.LeaseJob(t.Context(), "n1", wire.LeaseRequest{Kinds: []string{wire.JobVerify}})); got != nil {
		t.Fatal("leased a kind that was not asked for")
	}
	got := lease(t, e, "n1")
	if got == nil || got.ID != j.ID || got.Restpoint == nil || got.Restpoint.ID != r || len(got.Keys) == 0 || got.Target != "v" {
		t.Fatalf("leased %+v", got)
	}
	if _, _, err := format.OpenObject(got.Restpoint.Object, got.Restpoint.MasterKey); err != nil {
		t.Errorf("the job's restpoint: %v", err)
	}
	if lease(t, e, "n2") != nil {
		t.Error("leased twice")
	}
	_, err := e.Catalog.RenewJob(t.Context(), "n2", j.ID, wire.Progress{})
	wantCode(t, err, wire.CodeFenced, "renewed by another")
	e.Pass(50 * time.Second)
	if l := must[wire.JobLease](t)(e.Catalog.RenewJob(t.Context(), "n1", j.ID, wire.Progress{Done: 5})); l.Cancelled {
		t.Error("cancelled")
	}
	e.Clock.Advance(24 * time.Hour)
	e.Pass(50 * time.Second)
	e.Tick()
	if j := wantState(t, e, j.ID, catalog.JobLeased); j.Progress == nil || j.Progress.Done != 5 {
		t.Errorf("progress %+v", j.Progress)
	}
	// After a restart the lease lasts one full term more.
	e.Restart()
	e.Pass(50 * time.Second)
	e.Tick()
	wantState(t, e, j.ID, catalog.JobLeased)
	e.Pass(20 * time.Second)
	_, err = e.Catalog.RenewJob(t.Context(), "n1", j.ID, wire.Progress{})
	wantCode(t, err, wire.CodeFenced, "renewed too late")
	e.Tick()
	wantState(t, e, j.ID, catalog.JobQueued)
	if lease(t, e, "n2") == nil {
		t.Fatal("a lost job is not given to another node")
	}
	// The old holder is shut out, the new one is not bothered.
	wantCode(t, e.Catalog.CompleteJob(t.Context(), "n1", j.ID, wire.JobResult{}), wire.CodeFenced, "completed by the old holder")
	_, err = e.Catalog.JobResolve(t.Context(), "n1", j.ID, nil)
	wantCode(t, err, wire.CodeFenced, "resolve by the old holder")
	for range 2 {
		if err := e.Catalog.CompleteJob(t.Context(), "n2", j.ID, wire.JobResult{Chunks: 2}); err != nil {
			t.Fatal(err)
		}
	}
	if j := wantState(t, e, j.ID, catalog.JobDone); j.Result.Chunks != 2 || j.Attempts != 2 {
		t.Errorf("job %+v", j)
	}
	wantCode(t, e.Catalog.CancelJob(t.Context(), j.ID), wire.CodeConflict, "cancel of a job that is done")
}

func TestLeaseAttempts(t *testing.T) {
	e, _, r := replicated(t)
	j := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: r}))
	for range 3 {
		if lease(t, e, "n") == nil {
			t.Fatal("no job")
		}
		e.Pass(61 * time.Second)
		e.Tick()
	}
	if j := wantState(t, e, j.ID, catalog.JobFailed); j.Failure == nil || j.Failure.Code != wire.CodeFenced {
		t.Errorf("failure %+v", j.Failure)
	}
}

func TestLeaseWaits(t *testing.T) {
	e, _, r := replicated(t)
	got := make(chan *wire.Job)
	go func() {
		j, err := e.Catalog.LeaseJob(t.Context(), "n", wire.LeaseRequest{Kinds: allKinds, Wait: wire.Duration(time.Minute)})
		if err != nil {
			t.Error(err)
		}
		got <- j
	}()
	j := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: r, Node: "n"}))
	if l := <-got; l == nil || l.ID != j.ID {
		t.Errorf("leased %+v", l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.Catalog.LeaseJob(ctx, "n", wire.LeaseRequest{Kinds: allKinds, Wait: wire.Duration(time.Minute)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCancelJob(t *testing.T) {
	e, _, r := replicated(t)
	j := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: r}))
	lease(t, e, "n")
	for range 2 {
		if err := e.Catalog.CancelJob(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
	}
	if l := must[wire.JobLease](t)(e.Catalog.RenewJob(t.Context(), "n", j.ID, wire.Progress{})); !l.Cancelled {
		t.Error("the holder was not told")
	}
	wantCode(t, e.Catalog.CompleteJob(t.Context(), "n", j.ID, wire.JobResult{}), wire.CodeFenced, "complete after cancel")
	if err := e.Catalog.FailJob(t.Context(), "n", j.ID, wire.Failure{}); err != nil {
		t.Errorf("fail after cancel: %v", err)
	}
}

func TestHoldJob(t *testing.T) {
	e, _, r := replicated(t)
	zero := 0
	j := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobExport, Restpoint: r, Disk: &zero}))
	if lease(t, e, "node") != nil {
		t.Error("a node was given an export")
	}
	for range 2 {
		if got := must[*wire.Job](t)(e.Catalog.HoldJob(t.Context(), "ann", j.ID)); got.ID != j.ID || *got.Disk != 0 {
			t.Errorf("held %+v", got)
		}
	}
	_, err := e.Catalog.HoldJob(t.Context(), "bob", j.ID)
	wantCode(t, err, wire.CodeBusy, "held by another")
	p := packsIn(t, e)[0]
	urls := must[wire.URLResponse](t)(e.Catalog.JobURLs(t.Context(), "ann", j.ID, wire.URLRequest{Packs: []string{p.ID.String(), format.PackID{1}.String()}}))
	if len(urls.URLs) != 2 || urls.URLs[0] == "" || urls.URLs[1] != "" {
		t.Errorf("URLs %q", urls.URLs)
	}
	ids := must[[]chunker.ID](t)(e.Catalog.PackContents(t.Context(), p.Seq))
	locs := must[[]wire.Location](t)(e.Catalog.JobResolve(t.Context(), "ann", j.ID, append(ids, chunker.ID{1})))
	for i, l := range locs {
		if l.Found != (i < len(ids)) || l.Found && (l.Pack != p.ID || l.Entry.ID != ids[i] || int(l.Entry.Ordinal) != i) {
			t.Errorf("location %d: %+v", i, l)
		}
	}
	_, err = e.Catalog.JobURLs(t.Context(), "ann", j.ID, wire.URLRequest{Packs: make([]string, wire.MaxURLs+1)})
	wantCode(t, err, wire.CodeBadRequest, "too many packs")
	// A person who goes away is not replaced.
	e.Pass(61 * time.Second)
	e.Tick()
	wantState(t, e, j.ID, catalog.JobFailed)
}

func TestCreateJob(t *testing.T) {
	e, _, r := replicated(t)
	one := 1
	for name, tt := range map[string]struct {
		spec catalog.JobSpec
		code string
	}{
		"kind":      {catalog.JobSpec{Kind: "dance", Restpoint: r}, wire.CodeBadRequest},
		"prove":     {catalog.JobSpec{Kind: wire.JobProve, Restpoint: r}, wire.CodeBadRequest},
		"no target": {catalog.JobSpec{Kind: wire.JobHydrate, Restpoint: r}, wire.CodeBadRequest},
		"restpoint": {catalog.JobSpec{Kind: wire.JobVerify, Restpoint: "x"}, wire.CodeNotFound},
		"machine":   {catalog.JobSpec{Kind: wire.JobVerify, Restpoint: "x/latest"}, wire.CodeNotFound},
		"disk":      {catalog.JobSpec{Kind: wire.JobVerify, Restpoint: r, Disk: &one}, wire.CodeNotFound},
	} {
		_, err := e.Catalog.CreateJob(t.Context(), tt.spec)
		wantCode(t, err, tt.code, name)
	}
}

// TestForeignUnproven: readers of one machine's restpoints are never sent to what another wrote and nobody checked.
func TestForeignUnproven(t *testing.T) {
	e := catalogtest.New(t, nil)
	a, b := e.NewAgent("a"), e.NewAgent("b")
	d := disk("d", 1, 3*chunk, 0, 1)
	lies := open(t, b, d)
	for i := range lies.Pieces {
		lies.Pieces[i].Content = append([]byte{1}, lies.Pieces[i].Content[1:]...)
	}
	packs := upload(t, lies, lies.Pieces...)
	r, _ := a.Replicate(d)
	e.MustRestore(r, d)
	j := must[catalog.Job](t)(e.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobExport, Restpoint: r}))
	must[*wire.Job](t)(e.Catalog.HoldJob(t.Context(), "ann", j.ID))
	urls := must[wire.URLResponse](t)(e.Catalog.JobURLs(t.Context(), "ann", j.ID, wire.URLRequest{Packs: []string{packs[0].ID.String()}}))
	if urls.URLs[0] != "" {
		t.Error("a URL for another machine's unproven pack")
	}
	locs := must[[]wire.Location](t)(e.Catalog.JobResolve(t.Context(), "ann", j.ID, []chunker.ID{lies.Pieces[0].ID}))
	if !locs[0].Found || locs[0].Pack == packs[0].ID {
		t.Errorf("resolved to %+v", locs[0])
	}
}
