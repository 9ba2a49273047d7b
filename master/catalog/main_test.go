package catalog_test

import (
	"bytes"
	"crypto/ed25519"
	"io"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const chunk = catalogtest.ChunkSize

// disk makes a disk of that many bytes in which the chunks named are random and all others zero.
func disk(id string, seed uint64, size int, chunks ...int) catalogtest.Disk {
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
	d := catalogtest.Disk{ID: id, Data: make([]byte, size)}
	for _, i := range chunks {
		end := min((i+1)*chunk, size)
		_, _ = rnd.Read(d.Data[i*chunk : end])
	}
	return d
}

// changed returns a copy of d with one byte changed at each offset.
func changed(d catalogtest.Disk, offsets ...int) catalogtest.Disk {
	d.Data = bytes.Clone(d.Data)
	for _, o := range offsets {
		d.Data[o]++
	}
	return d
}

func wantCode(t *testing.T, err error, code, doing string) {
	t.Helper()
	if !wire.HasCode(err, code) {
		t.Errorf("%s: %v, want a problem with code %s", doing, err, code)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func open(t *testing.T, a *catalogtest.Agent, disks ...catalogtest.Disk) *catalogtest.Cycle {
	t.Helper()
	return must[*catalogtest.Cycle](t)(a.Open("", disks...))
}

// sent opens a session and sends everything; it returns the manifest to commit.
func sent(t *testing.T, a *catalogtest.Agent, disks ...catalogtest.Disk) (*catalogtest.Cycle, []byte) {
	t.Helper()
	c := open(t, a, disks...)
	must[[]catalogtest.Piece](t)(c.Send())
	return c, must[[]byte](t)(c.Manifest())
}

// prove runs all prove jobs as a node that finds nothing wrong.
func prove(t *testing.T, e *catalogtest.Env) (packs int) {
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

// checkChain reads a machine's restpoints from the bucket and checks that each object's link names the one before it, from
// the first on, and that they are exactly those listed.
func checkChain(t *testing.T, e *catalogtest.Env, machine string) int {
	t.Helper()
	listed, err := e.Catalog.Restpoints(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	inBucket := 0
	if err := e.Bucket.List(t.Context(), "restpoints/"+machine+"/", "", func(staging.Info) error { inBucket++; return nil }); err != nil {
		t.Fatal(err)
	}
	if inBucket != len(listed) {
		t.Errorf("%d restpoints in the bucket, %d are listed", inBucket, len(listed))
	}
	var previous [32]byte
	for i := range listed {
		p := listed[len(listed)-1-i]
		body, err := e.Bucket.Get(t.Context(), format.RestpointName(machine, p.ID), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		object, err := io.ReadAll(body)
		body.Close()
		if err != nil {
			t.Fatal(err)
		}
		_, link, err := format.OpenObject(object, e.MasterKey.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		if link.Sequence != uint64(i+1) || p.Sequence != link.Sequence || link.Previous != previous || link.Machine != machine {
			t.Errorf("link %d of the chain has sequence %d and previous %x, want %x", i+1, link.Sequence, link.Previous, previous)
		}
		previous = format.LinkHash(link)
	}
	return len(listed)
}
