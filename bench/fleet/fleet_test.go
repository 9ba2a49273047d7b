package main

import (
	"context"
	"io"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptions(t *testing.T) {
	o, err := parseOptions(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.agents != 10_000 || o.every != 10*time.Second || o.commits != 100 || o.index != 10_000_000 || !o.wants("fleet") || !o.wants("offer") {
		t.Errorf("the defaults are not what the bars are for: %+v", o)
	}
	for _, bad := range [][]string{{"x"}, {"--agents", "0"}, {"--only", "flet"}, {"--commits", "0"}, {"--fresh", "2"}, {"--every", "1ms"}, {"--index", "0"}} {
		if _, err := parseOptions(bad, io.Discard); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if o, err = parseOptions([]string{"--quick", "--only", "offer"}, io.Discard); err != nil || o.agents > 100 || o.wants("fleet") {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestEachKeepsTheRate(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	n := 0
	each(ctx, 100, func(i int) {
		if i != n {
			t.Errorf("%d after %d", i, n)
		}
		if n++; n == 5 {
			time.Sleep(100 * time.Millisecond) // what was missed comes after it
		}
	})
	if n < 20 || n > 32 {
		t.Errorf("%d in 0.3 s at 100 a second", n)
	}
}

func TestTable(t *testing.T) {
	o, err := parseOptions(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if report.Passed(table(o, &results{})) {
		t.Error("what did not run passed")
	}
	good := &results{Fleet: &fleetResult{Agents: 10, For: time.Second, Commits: make([]time.Duration, 100), Reads: map[string][]time.Duration{"summary": {time.Millisecond}},
		Master: measure.Usage{Peak: 1 << 30}}, Offer: &offerResult{Known: 400_000, Unknown: 300_000, For: time.Second, Filled: time.Second}}
	if rows := table(o, good); !report.Passed(rows) {
		t.Errorf("%+v", rows)
	}
	for name, spoil := range map[string]func(r *results){
		"lost": func(r *results) { r.Fleet.Lost = 1 }, "slow": func(r *results) { r.Fleet.Reads["jobs"] = []time.Duration{time.Second} },
		"large": func(r *results) { r.Fleet.Master.Peak = 2 << 30 }, "few": func(r *results) { r.Fleet.Commits = r.Fleet.Commits[:99] }, "offers": func(r *results) { r.Offer.Unknown = 299_999 },
	} {
		f, of := *good.Fleet, *good.Offer
		f.Reads = map[string][]time.Duration{"summary": {time.Millisecond}}
		bad := &results{Fleet: &f, Offer: &of}
		if spoil(bad); report.Passed(table(o, bad)) {
			t.Errorf("%s: passed", name)
		}
	}
}

func TestIDsAreApart(t *testing.T) {
	seen := map[any]bool{}
	for i := range 10_000 {
		for _, id := range []any{numbered(i), numbered(-2 - i)} {
			if seen[id] {
				t.Fatalf("%d: an id is there twice", i)
			}
			seen[id] = true
		}
	}
}
