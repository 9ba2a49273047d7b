package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// offerResult is how fast ids are looked up.
type offerResult struct {
	Index   int           `json:"index"` // ids in it
	Filled  time.Duration `json:"filled"`
	Known   float64       `json:"known"` // ids a second
	Unknown float64       `json:"unknown"`
	Master  measure.Usage `json:"master"` // of both
	For     time.Duration `json:"for"`
	Load    string        `json:"load"`
}

// perPack is how many ids one pack of the index has. Real packs have some two hundred, but the index does not know the difference.
const perPack = 100_000

const storedSize = 17 // bytes of the smallest entry

// offers is how many ask at once.
const offers = 4

func numbered(i int) chunker.ID {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)+1))
}

// offer fills an index through the protocol, and offers ids to it.
func (b *bench) offer(ctx context.Context) (_ *offerResult, err error) {
	s, err := b.master(ctx, "offer")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	agents, err := b.enrolAll(ctx, s, 1)
	if err != nil {
		return nil, err
	}
	a := agents[0]
	defer a.Close()
	defer a.tools.client.close()
	session, err := a.OpenSession(ctx, &wire.SessionRequest{Disks: []wire.SessionDisk{{ID: "disk", Name: "/dev/sda", Size: 1 << 40, ChunkSize: chunker.MinSize}}})
	if err != nil {
		return nil, err
	}
	r := &offerResult{Index: b.o.index}
	began := time.Now()
	if err := b.fill(ctx, a, session.ID); err != nil {
		return nil, err
	}
	r.Filled = time.Since(began)
	before, err := s.MasterUsage()
	if err != nil {
		return nil, err
	}
	began = time.Now()
	if r.Known, err = b.ask(ctx, a, session.ID, true); err != nil {
		return nil, err
	}
	if r.Unknown, err = b.ask(ctx, a, session.ID, false); err != nil {
		return nil, err
	}
	r.For = time.Since(began)
	after, err := s.MasterUsage()
	if err != nil {
		return nil, err
	}
	r.Master = measure.Usage{CPU: after.CPU - before.CPU, Peak: after.Peak}
	r.Load = measure.ThisMachine(time.Now()).Load
	return r, nil
}

func (b *bench) fill(ctx context.Context, a *agent, session string) error {
	for done := 0; done < b.o.index; {
		n := min(perPack, b.o.index-done)
		entries := make([]format.Entry, n)
		for i := range entries {
			entries[i] = format.Entry{Kind: format.KindChunk, Codec: chunker.Zstd, ID: numbered(done + i), Stored: storedSize, Raw: chunker.MinSize}
		}
		id := format.PackID(numbered(-2 - done))
		if err := a.put(ctx, session, id, make([]byte, 1<<10+n*storedSize), entries); err != nil {
			return fmt.Errorf("fill the index after %d ids: %w", done, err)
		}
		if _, err := a.RenewSession(ctx, session, &wire.Progress{}); err != nil {
			return err
		}
		if done += n; done%(10*perPack) == 0 {
			b.Say("%d ids are in the index", done)
		}
	}
	return nil
}

// ask offers ids, all known or all not, as fast as the master answers, and returns how many a second.
func (b *bench) ask(ctx context.Context, a *agent, session string, known bool) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Ids are made beforehand: it is the master that is measured. Each offer begins at another place of them.
	rng := rand.New(rand.NewPCG(4, 3))
	ids := make([]chunker.ID, 64*wire.MaxOffer)
	for i := range ids {
		ids[i] = numbered(rng.IntN(b.o.index))
		if !known {
			ids[i] = numbered(b.o.index + rng.IntN(1<<40))
		}
	}
	var asked atomic.Int64
	var askers sync.WaitGroup
	errs := make(chan error, offers)
	began := time.Now()
	until := began.Add(b.o.offerSpan)
	for k := range offers {
		askers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(k), 3))
			for time.Now().Before(until) {
				at := rng.IntN(len(ids) - wire.MaxOffer)
				bits, err := a.Offer(ctx, session, ids[at:at+wire.MaxOffer])
				if err == nil && (bits.Get(0) != known || bits.Get(wire.MaxOffer-1) != known) {
					err = fmt.Errorf("an id is known: %v, want %v", !known, known)
				}
				if err != nil {
					errs <- err
					cancel()
					return
				}
				asked.Add(wire.MaxOffer)
			}
		})
	}
	askers.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
	}
	return float64(asked.Load()) / time.Since(began).Seconds(), nil
}
