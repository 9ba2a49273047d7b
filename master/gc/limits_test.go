package gc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/wire"
)

func TestOneAtATime(t *testing.T) {
	e, _, _ := two(t)
	g := collector(e)
	calls := 0
	must[gc.Report](t)(g.Collect(t.Context(), &gc.Options{Progress: func(string, int64, int64) {
		calls++
		if _, err := g.Collect(t.Context(), nil); !errors.Is(err, gc.ErrBusy) {
			t.Errorf("a collection within a collection: %v", err)
		}
		if _, err := g.Rebuild(t.Context(), nil); !errors.Is(err, gc.ErrBusy) {
			t.Errorf("a rebuild within a collection: %v", err)
		}
		if r, err := g.Check(t.Context(), nil); err != nil || !r.OK {
			t.Errorf("a check within a collection: %v, %+v", err, r)
		}
	}}))
	if calls == 0 {
		t.Error("progress was not told")
	}
}

// Reports stay small, however much is wrong.
func TestReportsAreBounded(t *testing.T) {
	e := catalogtest.New(t, nil)
	const junk = 500
	for i := range junk {
		name := fmt.Sprintf("packs/%s-%d", strings.Repeat("x", 800), i)
		if err := e.Bucket.Put(t.Context(), name, nil, nil); err != nil {
			t.Fatal(err)
		}
		if err := e.Bucket.Put(t.Context(), fmt.Sprintf("restpoints/m/r-%d", i), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	c := must[gc.Report](t)(collector(e).Collect(t.Context(), nil))
	k := must[gc.CheckReport](t)(collector(e).Check(t.Context(), nil))
	r := must[gc.RebuildReport](t)(collector(e).Rebuild(t.Context(), nil))
	if c.Count != junk || k.Count != junk || k.OrphanCount != junk || r.Count != 2*junk {
		t.Errorf("counts are %d, %d, %d and %d", c.Count, k.Count, k.OrphanCount, r.Count)
	}
	for _, v := range []any{c, k, r} {
		if b := must[[]byte](t)(json.Marshal(v)); len(b) > 512<<10 {
			t.Errorf("%T takes %d bytes", v, len(b))
		}
	}
}

// Scripts read the reports: an empty list is a list, and names do not change.
func TestReportJSON(t *testing.T) {
	e := catalogtest.New(t, nil)
	for _, v := range []any{
		must[gc.Report](t)(collector(e).Collect(t.Context(), nil)),
		must[gc.CheckReport](t)(collector(e).Check(t.Context(), nil)),
		must[gc.RebuildReport](t)(collector(e).Rebuild(t.Context(), nil)),
		must[wire.StagingStats](t)(collector(e).Stats(t.Context())),
	} {
		b := string(must[[]byte](t)(json.Marshal(v)))
		if strings.Contains(b, "null") || strings.ContainsAny(b, "ABCDEFGHIJKLMNOPQRSUVWXY") {
			t.Errorf("%T is %s", v, b)
		}
		if _, stats := v.(wire.StagingStats); !stats && !strings.Contains(b, `"problems":[]`) {
			t.Errorf("%T has no list of problems: %s", v, b)
		}
	}
}
