package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/overhead"
	"github.com/openmigrate/openmigrate/bench/program"
	"github.com/openmigrate/openmigrate/bench/report"
	"github.com/openmigrate/openmigrate/bench/system"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOptions(t *testing.T) {
	o, err := parseOptions(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.disk != 10<<30 || o.freezeRate != 20e6 || o.rpoRate != 5e6 || o.large != 1<<40 || o.dirty != 256<<20 || o.restpoints != 20 || o.pairs != 10 || o.rpoFor != 10*time.Minute {
		t.Errorf("without flags the issue's measurements are %+v", o)
	}
	for _, s := range sections {
		if !o.wants(s) {
			t.Errorf("section %s does not run", s)
		}
	}
	o, err = parseOptions([]string{"--quick", "--only", "rpo,sparse", "--file", "100MiB", "--dir", "x"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.file != 256<<20 || o.rpoFor != 20*time.Second || !filepath.IsAbs(o.dir) || !filepath.IsAbs(o.bin) || !o.wants("rpo") || o.wants("freeze") {
		t.Errorf("quick options are %+v", o)
	}
	for _, bad := range [][]string{
		{"--disk", "x"}, {"--file", "9GiB"}, {"--pairs", "0"}, {"--restpoints", "-1"}, {"--writes", "2000000"}, {"--only", "rpo,nothing"}, {"rest"}, {"--no-such-flag"},
		{"--for", "1ms"}, {"--interval", "0"}, {"--pause", "-1s"}, {"--dirty", "1"}, {"--dirty", "3GiB"}, {"--freeze-rate", "-5"},
	} {
		if _, err := parseOptions(bad, io.Discard); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

const msec = time.Millisecond

func under(frozen time.Duration) taken {
	return taken{ID: "r", Consistency: "filesystem", Tracker: "ebpf", Frozen: frozen, Stall: frozen + msec, Longest: 2 * frozen, Passes: 3, Stored: 10}
}

func cycle(wall time.Duration) system.Cycle { return system.Cycle{Wall: wall} }

func measured() *results {
	fuzzy := taken{ID: "bad", Consistency: "fuzzy", Why: []string{"first", "after 12 passes"}, Passes: 12, Longest: 300 * msec}
	l := loaded{Rate: 5e6, Block: 4096, Written: 50, For: 10 * time.Second, AgentCPU: 3 * time.Second, Server: time.Second}
	r := &results{
		Freeze:     &frozen{loaded: l, Wanted: 4, Restpoints: []taken{under(10 * msec), fuzzy, under(90 * msec), under(30 * msec)}},
		Throughput: &throughput{Writes: 100, Pairs: []overhead.Pair{{Plain: 98 * msec, Tracked: 100 * msec}, {Plain: 80 * msec, Tracked: 100 * msec}, {Plain: 100 * msec, Tracked: 100 * msec}}},
		Sparse:     &sparse{Large: 1 << 40, Small: 1 << 30, Pairs: []sparsePair{{cycle(120 * msec), cycle(100 * msec)}, {cycle(110 * msec), cycle(100 * msec)}, {cycle(300 * msec), cycle(200 * msec)}}},
		RPO:        &rpo{loaded: l, Interval: time.Second, Restpoints: []taken{under(5 * msec), under(7 * msec)}, States: map[string]int{"protected": 100}},
		Wire8k:     []variant{{Name: "some way", Rounds: []paging{{Written: 100, Stored: 150}, {Written: 100, Stored: 130}}}},
	}
	for i := range 100 {
		r.RPO.Samples = append(r.RPO.Samples, time.Duration(i+1)*50*msec)
	}
	return r
}

func TestTable(t *testing.T) {
	rows := table(&options{}, measured())
	for _, want := range []struct {
		bar   report.Bar
		value float64
		pass  bool
		says  string
	}{
		{report.Freeze, 30, true, "worst 90.0 ms in 3"}, {report.Instant, 0.75, false, "fuzzy: 2; after 12 passes"}, {report.Overhead, 0.98, true, "worst pair 0.80"},
		{report.Sparse, 1.2, false, "1024.00 GiB: 0.12 s"}, {report.RPO, 4.95, true, "worst 5.00 s"},
	} {
		i := slices.IndexFunc(rows, func(r report.Row) bool { return r.What == want.bar.What })
		if i < 0 {
			t.Errorf("no row %q", want.bar.What)
			continue
		}
		row := rows[i]
		if row.Measured == nil || row.Pass != want.pass || *row.Measured < want.value*0.999 || *row.Measured > want.value*1.001 || !strings.Contains(row.Detail, want.says) {
			t.Errorf("row %+v; want %v, pass %v, %q", row, want.value, want.pass, want.says)
		}
	}
	var b strings.Builder
	if err := report.Print(&b, rows); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"31.0 ms", "put into staging per byte written", "0.40", "2 filesystem", "random 8 KiB writes, some way", "1.40"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("the table lacks %q:\n%s", part, &b)
		}
	}
}

// TestTableOfFailures: what was not measured is never shown as reached.
func TestTableOfFailures(t *testing.T) {
	rows := table(&options{}, &results{})
	if len(rows) < 5 || report.Passed(rows) {
		t.Errorf("nothing was measured, and the table is %+v", rows)
	}
	for _, row := range rows {
		if row.Pass || row.Measured != nil {
			t.Errorf("row of nothing: %+v", row)
		}
	}
	fuzzy := taken{Consistency: "fuzzy", Passes: 12}
	good := under(50 * msec)
	rows = table(&options{only: []string{"freeze"}}, &results{Freeze: &frozen{Wanted: 20, Restpoints: []taken{good, good}}})
	if last := rows[len(rows)-1]; last.Pass || *last.Measured != 0.1 || !strings.Contains(last.Detail, "18 were not taken") {
		t.Errorf("2 of 20 restpoints: %+v", last)
	}
	rows = table(&options{only: []string{"freeze"}}, &results{Freeze: &frozen{Wanted: 2, Restpoints: []taken{fuzzy, fuzzy}}})
	if rows[0].Pass || rows[0].Measured != nil {
		t.Errorf("a freeze that never came about: %+v", rows[0])
	}
	rows = table(&options{only: []string{"rpo"}}, &results{RPO: &rpo{Samples: []time.Duration{6 * time.Second}}})
	if len(rows) != 1 || rows[0].Pass || *rows[0].Measured != 6 {
		t.Errorf("an RPO without a restpoint: %+v", rows)
	}
}

func TestTakenOf(t *testing.T) {
	p := &wire.RestpointInfo{ID: "r1", Consistency: "crash", Disks: []format.Disk{{Changed: 5, Tracker: "ebpf"}, {Changed: 7, Tracker: "ebpf"}}, Stats: wire.Progress{Sent: 12, Stored: 6}}
	got := takenOf(p, &wire.CycleReport{Frozen: wire.Duration(20 * msec), Passes: 4, Why: []string{"w"}})
	if got.Changed != 12 || got.Stored != 6 || got.Frozen != 20*msec || got.Passes != 4 || got.fuzzy() || got.Tracker != "ebpf" {
		t.Errorf("taken is %+v", got)
	}
	if got := takenOf(p, nil); got.Passes != 0 || got.ID != "r1" {
		t.Errorf("without a report it is %+v", got)
	}
	if s := consistencies([]taken{{Consistency: "fuzzy"}, *got, *got}); s != "2 crash, 1 fuzzy" {
		t.Errorf("consistencies are %q", s)
	}
}

// TestSections: one that fails keeps neither the others from running nor the folder from being removed.
func TestSections(t *testing.T) {
	roottest.Need(t, "loop devices and eBPF")
	o, err := parseOptions([]string{"--quick", "--only", "throughput,rpo", "--dir", t.TempDir()}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o.writes, o.pairs, o.tracked, o.disk, o.file = 100, 1, 16<<20, 128<<20, 16<<20
	b := &bench{o: o, Work: program.Work{Dir: filepath.Join(t.TempDir(), "missing"), Began: time.Now()}}
	res, err := b.run(t.Context())
	if err == nil || res.Throughput != nil || !strings.Contains(err.Error(), "rpo:") || !strings.Contains(err.Error(), "throughput:") {
		t.Errorf("without a folder: %v", err)
	}
	o.bin = t.TempDir()
	if _, err := newBench(o); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("without programs: %v", err)
	}
	b.Dir = t.TempDir()
	o.only = []string{"rpo", "throughput"}
	res, err = b.run(t.Context())
	if err == nil || strings.Contains(err.Error(), "throughput:") || res.Throughput == nil || len(res.Throughput.Pairs) != 1 || res.RPO != nil {
		t.Errorf("%v; measured %+v", err, res.Throughput)
	}
	if left, err := filepath.Glob(filepath.Join(b.Dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.run(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

func TestMachineIsNamed(t *testing.T) {
	r := &results{Machine: measure.ThisMachine(time.Now())}
	if s := r.describe(&options{disk: 10 << 30, file: 4 << 30, buffered: true}); !strings.Contains(s, "10.00 GiB") || !strings.Contains(s, "fdatasync") {
		t.Errorf("described as %q", s)
	}
}
