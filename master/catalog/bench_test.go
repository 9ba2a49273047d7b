package catalog_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

const (
	benchRows    = 1_000_000
	benchPerPack = 200
)

func benchID(i int) chunker.ID {
	return blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

// benchPack is the entries of a pack of chunks, and what its commit says of them.
func benchPack(n int) (format.PackID, []byte, wire.PackAnnounce) {
	entries := make([]format.Entry, benchPerPack)
	for i := range entries {
		entries[i] = format.Entry{Kind: format.KindChunk, Codec: chunker.Zstd, ID: benchID(n*benchPerPack + i), Stored: 1000, Raw: chunk}
	}
	id := format.PackID(benchID(-1 - n))
	return id, format.MarshalEntries(entries), wire.PackAnnounce{ID: id.String(), Size: 1 << 20, CRC32C: make([]byte, 4)}
}

// filled is a world with a million rows in its index, all in packs that the session has pinned.
func filled(b *testing.B, rows int) (*catalogtest.Env, *catalogtest.Cycle) {
	b.Helper()
	e := catalogtest.New(b, nil)
	a := e.NewAgent("m")
	c, err := a.Open("", disk("d", 1, chunk, 0))
	if err != nil {
		b.Fatal(err)
	}
	e.Bucket.Pretend(1 << 20)
	for n := range rows / benchPerPack {
		commitBench(b, e, c, n)
	}
	return e, c
}

func commitBench(b *testing.B, e *catalogtest.Env, c *catalogtest.Cycle, n int) {
	b.Helper()
	id, entries, announce := benchPack(n)
	if _, err := e.Catalog.Announce(b.Context(), c.Agent.Machine.ID, c.Session.ID, []wire.PackAnnounce{announce}); err != nil {
		b.Fatal(err)
	}
	if err := e.Catalog.CommitPack(b.Context(), c.Agent.Machine.ID, c.Session.ID, id, entries); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOffer looks ids up in an index of a million rows: all known, and all new.
func BenchmarkOffer(b *testing.B) {
	e, c := filled(b, benchRows)
	for _, known := range []bool{true, false} {
		b.Run(fmt.Sprintf("known=%v", known), func(b *testing.B) {
			ids := make([]chunker.ID, wire.MaxOffer)
			for i := range ids {
				ids[i] = benchID(rand.IntN(benchRows))
				if !known {
					ids[i] = benchID(benchRows + i)
				}
			}
			for b.Loop() {
				bits, err := e.Catalog.Offer(b.Context(), c.Agent.Machine.ID, c.Session.ID, ids)
				if err != nil {
					b.Fatal(err)
				}
				if bits.Get(0) != known {
					b.Fatal("wrong answer")
				}
			}
			b.ReportMetric(float64(len(ids))*float64(b.N)/b.Elapsed().Seconds(), "ids/s")
		})
	}
}

// BenchmarkCommitPack announces and commits packs of 200 entries, one transaction each, into a growing index.
func BenchmarkCommitPack(b *testing.B) {
	e, c := filled(b, benchPerPack)
	n := 1
	for b.Loop() {
		commitBench(b, e, c, n)
		n++
	}
	b.ReportMetric(benchPerPack*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
