package gc_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/staging"
)

// littered makes a world with one restpoint and rubbish of all kinds, and says what shall be left of it.
func littered(t testing.TB) (e *catalogtest.Env, listed string, d catalogtest.Disk, left map[string]int64) {
	t.Helper()
	e = catalogtest.New(t, nil)
	a, b := e.NewAgent("a"), e.NewAgent("b")
	d = disk("d", 1, 130, 0, 66, 129)
	listed, _ = a.Replicate(d)
	left = objects(t, e, "")
	gone, _ := a.Replicate(changed(d, 66))
	gone2, _ := b.Replicate(disk("d", 2, 40, 0, 1, 2, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35))
	remove(t, e, gone)
	remove(t, e, gone2)
	c := must[*catalogtest.Cycle](t)(b.Open("", disk("d", 3, 4, 0, 1)))
	must[[]catalogtest.Piece](t)(c.Send())
	later(e)
	if len(objects(t, e, "")) < len(left)+4 {
		t.Fatal("there is too little rubbish")
	}
	return e, listed, d, left
}

func wantLeft(t testing.TB, e *catalogtest.Env, want map[string]int64) {
	t.Helper()
	got := objects(t, e, "")
	if !maps.Equal(got, want) {
		t.Errorf("in the bucket: %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	packs := 0
	var last uint64
	last, err := e.Catalog.Packs(t.Context(), 0, 1000, func(p catalog.Pack) error {
		packs++
		if p.State != catalog.PackLive {
			t.Errorf("pack %s is %s", p.ID, p.State)
		}
		return nil
	})
	if err != nil || last == 0 {
		t.Errorf("list packs: %v", err)
	}
	for name := range want {
		if name[:6] == "packs/" {
			packs--
		}
	}
	if packs != 0 {
		t.Errorf("%d more packs in the database than in the bucket", packs)
	}
	if r := must[gc.CheckReport](t)(collector(e).Check(t.Context(), &gc.CheckOptions{Deep: true})); r.RestpointsBroken+int(r.PacksBroken)+int(r.OrphanCount) != 0 {
		t.Errorf("check: %+v", r)
	}
}

// TestCollectDeath: the master dies at each transaction of a collection, before or after it is durable. The next collection ends the work.
func TestCollectDeath(t *testing.T) {
	for _, unheard := range []bool{false, true} {
		for step := 0; ; step++ {
			e, listed, d, left := littered(t)
			e.DB.DieAfter(step, unheard)
			_, err := collector(e).Collect(t.Context(), nil)
			died := e.DB.Dead()
			if died != errors.Is(err, catalogtest.ErrDead) {
				t.Fatalf("step %d: the master died: %v, the error is %v", step, died, err)
			}
			e.Restart()
			e.MustRestore(listed, d)
			collect(t, e, nil)
			e.MustRestore(listed, d)
			wantLeft(t, e, left)
			if t.Failed() {
				t.Fatalf("after death at step %d, unheard: %v", step, unheard)
			}
			if !died {
				if step < 5 {
					t.Fatalf("a collection took only %d transactions", step)
				}
				break
			}
		}
	}
}

// TestCollectBucketFails: each request to the bucket fails once, before it takes effect or after.
func TestCollectBucketFails(t *testing.T) {
	for _, before := range []bool{true, false} {
		for step := 0; ; step++ {
			e, listed, d, left := littered(t)
			n, failed := 0, ""
			e.Bucket.Fail(func(op, name string) (bool, error) {
				if n++; n-1 == step {
					failed = fmt.Sprintf("%s %s", op, name)
					return before, staging.ErrTemporary
				}
				return false, nil
			})
			_, err := collector(e).Collect(t.Context(), nil)
			e.Bucket.Fail(nil)
			if (failed != "") != errors.Is(err, staging.ErrTemporary) {
				t.Fatalf("request %d, %q, failed: the error is %v", step, failed, err)
			}
			e.MustRestore(listed, d)
			collect(t, e, nil)
			e.MustRestore(listed, d)
			wantLeft(t, e, left)
			if t.Failed() {
				t.Fatalf("after request %d, %q, failed", step, failed)
			}
			if failed == "" {
				break
			}
		}
	}
}
