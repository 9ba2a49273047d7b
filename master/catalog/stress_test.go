package catalog_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/wire"
)

// TestMeanwhile: agents replicate the same disks and drop their older restpoints, while a node proves, a collector deletes everything that nobody
// needs, and the master ticks. Every restpoint that was acknowledged and not dropped restores.
func TestMeanwhile(t *testing.T) {
	const agents, rounds, kept = 3, 8, 2
	e := catalogtest.New(t, nil)
	type made struct {
		restpoint string
		disk      catalogtest.Disk
	}
	var mu sync.Mutex
	var all []made
	collected := 0
	var replicating, others sync.WaitGroup
	stop := make(chan struct{})
	until := func(fn func() error) {
		others.Go(func() {
			for {
				if err := fn(); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for n := range agents {
		a := e.NewAgent(fmt.Sprint("m", n))
		replicating.Go(func() {
			var mine []made
			for i := range rounds {
				d := disk("d", uint64(i), 70*chunk, 0, 1, 66)
				c, err := a.Open("", d)
				if err == nil {
					_, err = c.Send()
				}
				var manifest []byte
				if err == nil {
					manifest, err = c.Manifest()
				}
				var done wire.Committed
				if err == nil {
					done, err = c.Commit(manifest)
				}
				if err != nil {
					t.Errorf("agent %d, round %d: %v", n, i, err)
					return
				}
				mine = append(mine, made{done.Restpoint, d})
				if len(mine) > kept {
					if err := e.Catalog.RemoveRestpoint(t.Context(), mine[0].restpoint); err != nil {
						t.Error(err)
					}
					mine = mine[1:]
				}
				if i%3 == 2 {
					a.ForgetBase()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	until(func() error { return e.Catalog.Tick(t.Context()) })
	until(func() error {
		j, err := e.Catalog.LeaseJob(t.Context(), "node", wire.LeaseRequest{Kinds: []string{wire.JobProve}, Wait: wire.Duration(time.Millisecond)})
		if err != nil || j == nil {
			return err
		}
		return e.Catalog.CompleteJob(t.Context(), "node", j.ID, wire.JobResult{})
	})
	until(func() error {
		n, err := collect(t, e)
		collected += n
		return err
	})
	replicating.Wait()
	close(stop)
	others.Wait()
	e.Tick()
	collected += must[int](t)(collect(t, e))
	if len(all) != agents*kept || collected == 0 {
		t.Errorf("%d restpoints, %d packs were collected", len(all), collected)
	}
	for _, m := range all {
		e.MustRestore(m.restpoint, m.disk)
	}
	for n := range agents {
		m := must[catalog.Machine](t)(e.Catalog.Machine(t.Context(), fmt.Sprint("m", n)))
		if m.Sequence != rounds {
			t.Errorf("machine %d is at restpoint %d", n, m.Sequence)
		}
	}
	t.Logf("%d packs were collected", collected)
}

// collect marks what the roots need by the contents of packs, puts a tombstone on all the rest, and deletes it. It returns how many packs.
func collect(t *testing.T, e *catalogtest.Env) (int, error) {
	col, err := e.Catalog.BeginCollection(t.Context())
	if err != nil {
		return 0, err
	}
	needed := make(map[string]bool)
	for _, root := range col.Roots {
		ids, err := e.IDs(&root)
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			needed[id.String()] = true
		}
	}
	var seqs []uint64
	_, err = e.Catalog.Packs(t.Context(), 0, 10_000, func(p catalog.Pack) error {
		seqs = append(seqs, p.Seq)
		return nil
	})
	if err != nil {
		return 0, err
	}
	var garbage []uint64
	for _, seq := range seqs {
		ids, err := e.Catalog.PackContents(t.Context(), seq)
		if err != nil {
			continue // announced, or forgotten meanwhile
		}
		need := false
		for _, id := range ids {
			need = need || needed[id.String()]
		}
		if !need {
			garbage = append(garbage, seq)
		}
	}
	gone, err := e.Catalog.Tombstone(t.Context(), col, garbage)
	if err != nil {
		return 0, err
	}
	for _, p := range gone {
		if err := e.Bucket.Delete(t.Context(), p.ID.Name()); err != nil {
			return 0, err
		}
		if err := e.Catalog.ForgetPack(t.Context(), p.Seq); err != nil {
			return 0, err
		}
	}
	return len(gone), nil
}
