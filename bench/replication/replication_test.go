package main

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/bench/disk"
	"github.com/openmigrate/openmigrate/bench/gateway"
	"github.com/openmigrate/openmigrate/bench/limit"
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/peers"
	"github.com/openmigrate/openmigrate/bench/report"
	"github.com/openmigrate/openmigrate/bench/system"
	"github.com/openmigrate/openmigrate/wire"
)

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"--quick", "--only", "second,huge"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.size != 1<<30 || o.pairs != 1 || o.huge != 1<<40 || !filepath.IsAbs(o.bin) {
		t.Errorf("quick options are %+v", o)
	}
	for section, want := range map[string]bool{"first": true, "second": true, "huge": true, "restore": false, "peers": false, "requests": false} {
		if o.wants(section) != want {
			t.Errorf("section %s runs: %v, want %v", section, o.wants(section), want)
		}
	}
	for _, bad := range [][]string{{"--size", "x"}, {"--huge", "0"}, {"--pairs", "0"}, {"--only", "first,nothing"}, {"rest"}, {"--no-such-flag"}} {
		if _, err := parseOptions(bad, io.Discard); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestLimitChild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := disk.Sparse(path, 16<<20, 1<<20, 4, 1); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := limitChild(t.Context(), []string{"replicate", path}, &out); err != nil {
		t.Fatal(err)
	}
	var res limit.Result
	if err := json.Unmarshal(out.Bytes(), &res); err != nil || res.Unique != 1<<20 {
		t.Errorf("%+v, %v; want 1 MiB unique", res, err)
	}
	for _, bad := range [][]string{nil, {"nothing"}, {"scan"}, {"restore", path}} {
		if err := limitChild(t.Context(), bad, io.Discard); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// measured makes a pair in which everything took whole seconds.
func measured(limitWall, ours, restic, borg int) *pair {
	s := func(n int) time.Duration { return time.Duration(n) * time.Second }
	run := func(wall, cpu int) measure.Run { return measure.Run{Wall: s(wall), Usage: measure.Usage{CPU: s(cpu)}} }
	return &pair{
		Scan:  &limit.Result{Wall: s(1), CPU: s(2), Unique: 1 << 30},
		Limit: &limit.Result{Wall: s(limitWall), CPU: s(18), Unique: 1 << 30, Stored: 1 << 29},
		First: &system.Cycle{Wall: s(ours), Agent: measure.Usage{CPU: s(20), Peak: 150 << 20}, Server: measure.Usage{CPU: s(4)},
			Restpoint: wire.RestpointInfo{Stats: wire.Progress{Sent: 1 << 30, Stored: 1 << 29}}},
		Restore: &restored{Export: run(10, 12), Limit: limit.Result{Wall: s(8)}, Fast: limit.Result{Wall: s(6)}},
		Second:  &second{Changed: 1 << 20, Cat: s(5), Cached: s(3), Cycle: system.Cycle{Wall: s(4), Agent: measure.Usage{Peak: 201 << 20}}},
		Peers:   map[string]peers.Result{"restic": {Run: run(restic, 50)}, "borg": {Run: run(borg, 30)}},
	}
}

func TestTable(t *testing.T) {
	r := &results{
		Machine: measure.Machine{Cores: 2}, Size: 20 << 30, Data: 8 << 30, Versions: map[string]string{"borg": "borg 1.2.4"},
		Pairs:    []*pair{measured(7, 10, 20, 12), measured(9, 10, 20, 30), measured(8, 10, 15, 16)},
		Requests: &counted{Requests: gateway.Requests{"PUT": 41, "HEAD": 40}, Stored: 1 << 30, Packs: 40},
		Huge:     &huge{Size: 1 << 40, Data: 1 << 28, First: system.Cycle{Agent: measure.Usage{Peak: 300 << 20}}, Requests: gateway.Requests{"PUT": 1, "GET": 9}},
	}
	want := []struct {
		bar   report.Bar
		value float64
		pass  bool
	}{
		{report.FirstWall, 0.8, true}, {report.FirstCPU, 0.9, true},
		{report.PeerWall, 1.5, true}, // of 1.2, 2.0 and 1.5: the faster peer of each pair
		{report.PeerCPU, 0.4, true},
		{report.Second, 0.75, true}, {report.Restore, 0.8, true},
		{report.Peak, 201, false}, {report.PeakHuge, 300, false},
		{report.Puts, 41 * 1024, false}, {report.Unchanged, 10, true},
	}
	rows := table(r)
	for i, w := range want {
		row := rows[i]
		if row.What != w.bar.What || row.Measured == nil || row.Pass != w.pass || *row.Measured < w.value*0.999 || *row.Measured > w.value*1.001 {
			t.Errorf("row %d is %+v; want %s = %v, pass %v", i, row, w.bar.What, w.value, w.pass)
		}
	}
	for _, row := range rows[len(want):] {
		if !row.Info {
			t.Errorf("row %q has a bar that is not in the list", row.What)
		}
	}
	if !slices.Equal(rows[0].Pairs, []float64{0.7, 0.9, 0.8}) {
		t.Errorf("pairs are %v", rows[0].Pairs)
	}
	if report.Passed(rows) {
		t.Error("the table passes with rows that fail")
	}
}

func TestTableWithoutMeasurements(t *testing.T) {
	for i, row := range table(&results{}) {
		if row.Measured != nil || row.Pass {
			t.Errorf("row %d of nothing: %+v", i, row)
		}
	}
	noBorg := measured(8, 10, 20, 0)
	delete(noBorg.Peers, "borg")
	rows := table(&results{Pairs: []*pair{noBorg}})
	if rows[2].Measured != nil || rows[2].Pass {
		t.Errorf("with one peer missing: %+v; the faster of both is not known", rows[2])
	}
	if rows[3].Measured == nil {
		t.Errorf("restic was there: %+v", rows[3])
	}
}

func TestShow(t *testing.T) {
	r := &results{Size: 20 << 30, Data: 8 << 30, Pairs: []*pair{measured(8, 10, 20, 20)}, Versions: map[string]string{"restic": "restic 0.14.0"}}
	file := filepath.Join(t.TempDir(), "out.json")
	var out strings.Builder
	if err := show(&options{json: file}, r, &out); err != nil {
		t.Errorf("a failed bar fails the run without --enforce: %v", err)
	}
	for _, part := range []string{"restic 0.14.0", "20.00 GiB", "FAIL", "not measured", "first replication"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the output lacks %q:\n%s", part, &out)
		}
	}
	if err := show(&options{enforce: true}, r, io.Discard); err == nil {
		t.Error("--enforce passes with rows that fail")
	}
}
