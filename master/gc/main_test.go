package gc_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const chunk = catalogtest.ChunkSize

type keyRing struct{ keys *format.Keys }

func (k keyRing) Keys(context.Context, string) (*format.Keys, error) { return k.keys, nil }

// collector works on what e has now; make another after e.Restart.
func collector(e *catalogtest.Env) *gc.Collector {
	return gc.New(e.Catalog, e.Bucket, keyRing{e.Keys}, e.Clock)
}

// disk makes a disk of that many chunks in which those named are random and all others zero.
func disk(id string, seed uint64, chunks int, used ...int) catalogtest.Disk {
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	d := catalogtest.Disk{ID: id, Data: make([]byte, chunks*chunk)}
	for _, i := range used {
		_, _ = rnd.Read(d.Data[i*chunk : (i+1)*chunk])
	}
	return d
}

// changed returns a copy of d with one byte changed in each chunk named.
func changed(d catalogtest.Disk, chunks ...int) catalogtest.Disk {
	d.Data = bytes.Clone(d.Data)
	for _, i := range chunks {
		d.Data[i*chunk]++
	}
	return d
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func collect(t testing.TB, e *catalogtest.Env, opt *gc.Options) gc.Report {
	t.Helper()
	r := must[gc.Report](t)(collector(e).Collect(t.Context(), opt))
	if r.Aborted {
		t.Fatalf("collection was aborted: %+v", r.Problems)
	}
	return r
}

// later makes signed URLs run out and sessions that nobody renews end.
func later(e *catalogtest.Env) {
	e.Pass(2 * time.Hour)
	e.Tick()
}

func objects(t testing.TB, e *catalogtest.Env, prefix string) map[string]int64 {
	t.Helper()
	all := make(map[string]int64)
	err := e.Bucket.List(t.Context(), prefix, "", func(o staging.Info) error {
		all[o.Name] = o.Size
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func remove(t testing.TB, e *catalogtest.Env, restpoint string) {
	t.Helper()
	if err := e.Catalog.RemoveRestpoint(t.Context(), restpoint); err != nil {
		t.Fatal(err)
	}
}

// prove runs all prove jobs as a node that finds nothing wrong.
func prove(t testing.TB, e *catalogtest.Env) (packs int) {
	t.Helper()
	e.Tick()
	for {
		j := must[*wire.Job](t)(e.Catalog.LeaseJob(t.Context(), "node", wire.LeaseRequest{Kinds: []string{wire.JobProve}}))
		if j == nil {
			return packs
		}
		packs += len(j.Packs)
		if err := e.Catalog.CompleteJob(t.Context(), "node", j.ID, wire.JobResult{}); err != nil {
			t.Fatal(err)
		}
	}
}
