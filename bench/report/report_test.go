package report

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerdicts(t *testing.T) {
	least, most := Bar{What: "w", Limit: 0.7}, Bar{What: "w", Limit: 200, Most: true, Unit: " MiB", Value: "%.0f"}
	for _, c := range []struct {
		row     Row
		verdict string
		pass    bool
	}{
		{least.Row(0.7, nil, ""), "pass", true}, {least.Row(0.699, nil, ""), "FAIL", false},
		{most.Row(200, nil, ""), "pass", true}, {most.Row(201, nil, ""), "FAIL", false},
		{least.Missing("no peer"), "not measured", false}, {Info("i", "1 s", ""), "", true},
	} {
		if v := c.row.verdict(); v != c.verdict || Passed([]Row{c.row}) != c.pass {
			t.Errorf("%+v: verdict %q, passed %v; want %q, %v", c.row, v, Passed([]Row{c.row}), c.verdict, c.pass)
		}
	}
	if !Passed([]Row{least.Row(1, nil, ""), Info("i", "", "")}) || Passed([]Row{least.Row(1, nil, ""), most.Row(999, nil, "")}) {
		t.Error("a table passes when a row fails, or the other way round")
	}
}

func TestPrint(t *testing.T) {
	var b strings.Builder
	rows := []Row{
		FirstWall.Row(0.7512, []float64{0.74, 0.7512, 0.76}, "%d s", 12), Peak.Row(333.3, nil, "three pairs"), PeerWall.Missing("no peer"), Info("server", "3 s", "x"),
	}
	if err := Print(&b, rows); err != nil {
		t.Fatal(err)
	}
	want := `WHAT                                                     BAR             MEASURED                DETAIL
first replication, wall time against the limit           ≥ 0.70          0.75      pass          12 s
agent's peak memory, disk                                ≤ 200 MiB       333 MiB   FAIL          three pairs
first replication against the faster of restic and borg  ≥ 1.30 × faster  -        not measured  no peer
server                                                                   3 s                     x
`
	norm := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if norm(b.String()) != norm(want) {
		t.Errorf("printed:\n%s\nwant:\n%s", b.String(), want)
	}
	j, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"measured":0.7512`, `"pairs":[0.74,0.7512,0.76]`, `"measured":null`, `"bar":"≤ 200 MiB"`, `"pass":false`} {
		if !strings.Contains(string(j), part) {
			t.Errorf("JSON lacks %s:\n%s", part, j)
		}
	}
}

func TestDocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.json")
	d := Document{Heading: []string{"a machine"}, Rows: []Row{FirstWall.Row(0.1, nil, "slow")}, Results: map[string]int{"n": 7}}
	var b strings.Builder
	if err := d.Show(&b, file, false); err != nil {
		t.Errorf("a bar that is missed fails the run: %v", err)
	}
	if !strings.Contains(b.String(), "a machine\n") || !strings.Contains(b.String(), "FAIL") {
		t.Errorf("printed:\n%s", &b)
	}
	written, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(written), `"n": 7`) || strings.Contains(string(written), "a machine") {
		t.Errorf("written: %s, %v", written, err)
	}
	if err := d.Show(io.Discard, "", true); !errors.Is(err, ErrBars) {
		t.Errorf("enforced: %v", err)
	}
	if err := d.Show(io.Discard, filepath.Join(file, "x"), false); err == nil {
		t.Error("a file that cannot be written is no error")
	}
}
