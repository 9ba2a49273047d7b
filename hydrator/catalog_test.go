package hydrator

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// site is a real catalog and collector, a bucket behind HTTP, and an agent that sends patches.
type site struct {
	*catalogtest.Env
	agent *catalogtest.Agent
	gc    *gc.Collector
}

type keyRing struct{ keys *format.Keys }

func (k keyRing) Keys(context.Context, string) (*format.Keys, error) { return k.keys, nil }

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Bucket.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.Env = catalogtest.New(t, &catalog.Options{StagingHosts: []string{u.Host}})
	s.Bucket.SetBaseURL(server.URL)
	s.agent = s.NewAgent("a")
	s.agent.Patches = true
	s.gc = gc.New(s.Catalog, s.Bucket, keyRing{s.Keys}, s.Clock)
	if err := s.gc.PublishMachines(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// holder is what somebody who holds jobs says to the catalog.
type holder struct {
	s    *site
	name string
}

func (h holder) Resolve(ctx context.Context, job string, ids []chunker.ID) ([]wire.Location, error) {
	locs, err := h.s.Catalog.JobResolve(ctx, h.name, job, ids)
	if err != nil {
		return nil, err
	}
	return wire.DecodeLocations(wire.EncodeLocations(nil, locs), ids)
}

func (h holder) URLs(ctx context.Context, job string, r *wire.URLRequest) (*wire.URLResponse, error) {
	out, err := h.s.Catalog.JobURLs(ctx, h.name, job, *r)
	return &out, err
}

func (h holder) Quarantine(ctx context.Context, job string, damage []wire.Damage) error {
	return h.s.Catalog.JobQuarantine(ctx, h.name, job, damage)
}

func (h holder) RenewJob(ctx context.Context, job string, p *wire.Progress) (*wire.JobLease, error) {
	out, err := h.s.Catalog.RenewJob(ctx, h.name, job, *p)
	return &out, err
}

func (h holder) CompleteJob(ctx context.Context, job string, r *wire.JobResult) error {
	return h.s.Catalog.CompleteJob(ctx, h.name, job, *r)
}

func (h holder) FailJob(ctx context.Context, job string, f *wire.Failure) error {
	return h.s.Catalog.FailJob(ctx, h.name, job, *f)
}

// jobs does all that is queued, as a node does, and returns how many packs were proven.
func (s *site) jobs(t *testing.T) (packs int) {
	t.Helper()
	s.Tick()
	h := holder{s, "node"}
	for {
		job, err := s.Catalog.LeaseJob(t.Context(), h.name, wire.LeaseRequest{Kinds: []string{wire.JobProve, wire.JobVerify}})
		if err != nil {
			t.Fatal(err)
		}
		if job == nil {
			return packs
		}
		r, err := reader.New(job, h, &reader.Options{Clock: s.Clock})
		if err != nil {
			t.Fatal(err)
		}
		var res wire.JobResult
		if job.Kind == wire.JobProve {
			res, err = prove(t.Context(), r, h, job, func(wire.Progress) {})
			packs += len(job.Packs)
		} else {
			var rp *format.Restpoint
			if rp, err = reader.OpenRestpoint(job, r.Keys(), nil); err == nil {
				res, err = verify(t.Context(), r, rp, nil, func(wire.Progress) {})
			}
		}
		r.Close()
		if err != nil || res.Damaged != 0 {
			t.Fatalf("%s: %+v, %v", job.Kind, res, err)
		}
		if err := h.CompleteJob(t.Context(), job.ID, &res); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *site) export(t *testing.T, restpoint, path string, want catalogtest.Disk) wire.JobResult {
	t.Helper()
	h := holder{s, "ann"}
	j, err := s.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobExport, Restpoint: restpoint})
	if err != nil {
		t.Fatal(err)
	}
	job, err := s.Catalog.HoldJob(t.Context(), h.name, j.ID)
	if err != nil {
		t.Fatal(err)
	}
	res, err := Export(t.Context(), h, job, 0, path, &ExportOptions{Reader: reader.Options{Clock: s.Clock}})
	if err != nil {
		t.Fatalf("export %s: %v", restpoint, err)
	}
	mustHold(t, path, want.Data)
	return res
}

// collect removes a restpoint and collects garbage when URLs have run out.
func (s *site) collect(t *testing.T, remove ...string) {
	t.Helper()
	for _, id := range remove {
		if err := s.Catalog.RemoveRestpoint(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	s.Pass(2 * time.Hour)
	s.Tick()
	r, err := s.gc.Collect(t.Context(), nil)
	if err != nil || r.Aborted {
		t.Fatalf("%+v, %v", r, err)
	}
}

// packs are those in the bucket.
func (s *site) packs(t *testing.T) map[format.PackID]bool {
	t.Helper()
	packs := map[format.PackID]bool{}
	err := s.Catalog.PacksByID(t.Context(), nil, 1<<20, func(p catalog.Pack) error {
		if _, err := s.Bucket.Stat(t.Context(), p.ID.Name()); err != nil {
			return err
		}
		packs[p.ID] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packs
}

// TestPatchesFromEndToEnd: restpoints that are patches are proven, verified, exported and applied as differences like any other, also when the
// restpoint with their bases is gone; and the bases go with the last patch.
func TestPatchesFromEndToEnd(t *testing.T) {
	s := newSite(t)
	const chunks = 45
	first := catalogtest.Disk{ID: "d", Data: make([]byte, chunks*catalogtest.ChunkSize+9000)}
	rnd := rand.NewChaCha8([32]byte{1})
	_, _ = rnd.Read(first.Data)
	r1, _ := s.agent.Replicate(first)
	bases := s.packs(t)
	second := catalogtest.Disk{ID: "d", Data: touched(first.Data, 1, 1)}
	second.Data[len(second.Data)-1]++ // the chunk that is short
	r2, _ := s.agent.Replicate(second)
	third := catalogtest.Disk{ID: "d", Data: touched(second.Data, 3, 2)}
	r3, _ := s.agent.Replicate(third)

	if n := s.jobs(t); n != len(s.packs(t)) {
		t.Errorf("%d packs were proven of %d", n, len(s.packs(t)))
	}
	stats, err := s.gc.Stats(t.Context())
	if err != nil || stats.Patches.Count != chunks+1+chunks/3 || stats.ProvenShare != 1 {
		t.Fatalf("%+v, %v", stats, err)
	}
	warm := filepath.Join(t.TempDir(), "warm.raw")
	s.export(t, r1, warm, first)
	if res := s.export(t, r2, warm, second); res.Chunks != chunks+1 {
		t.Errorf("wrote %d chunks, all differ", res.Chunks)
	}
	cold := func(id string, want catalogtest.Disk) {
		t.Helper()
		if _, err := s.Catalog.CreateJob(t.Context(), catalog.JobSpec{Kind: wire.JobVerify, Restpoint: id}); err != nil {
			t.Fatal(err)
		}
		s.jobs(t)
		s.export(t, id, filepath.Join(t.TempDir(), "cold.raw"), want)
	}
	cold(r2, second)
	cold(r3, third)

	s.collect(t, r1)
	for id := range bases {
		if !s.packs(t)[id] {
			t.Fatalf("pack %s was deleted, patches need it", id)
		}
	}
	cold(r2, second)
	cold(r3, third)
	if res := s.export(t, r3, warm, third); res.Chunks != chunks/3 {
		t.Errorf("wrote %d chunks, %d differ", res.Chunks, chunks/3)
	}
	if k, err := s.gc.Check(t.Context(), &gc.CheckOptions{Deep: true}); err != nil || !k.OK {
		t.Errorf("check: %+v, %v", k, err)
	}
	s.collect(t, r2)
	cold(r3, third)
	s.collect(t, r3)
	if left := s.packs(t); len(left) != 0 {
		t.Errorf("%d packs are left, bases among them", len(left))
	}
}
