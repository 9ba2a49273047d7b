package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/boltstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type world struct {
	*Log
	t     *testing.T
	db    store.Store
	clock *clock.Fake
}

func newWorld(t *testing.T, o *Options) *world {
	t.Helper()
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, db: db, clock: clock.NewFake(time.Date(2026, 3, 1, 12, 0, 0, 500, time.UTC))}
	w.Log = New(db, w.clock, o)
	return w
}

// add writes changes in one transaction.
func (w *world) add(changes ...Change) {
	w.t.Helper()
	if err := w.db.Update(w.t.Context(), func(tx store.Writer) error {
		for _, c := range changes {
			if err := w.Append(tx, c); err != nil {
				return err
			}
			w.clock.Advance(time.Second)
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) export() []byte {
	w.t.Helper()
	var b bytes.Buffer
	if err := w.Export(w.t.Context(), &b, 0); err != nil {
		w.t.Fatal(err)
	}
	return b.Bytes()
}

var samples = []Change{
	{Who: Who{Kind: "master", ID: "master", Name: "master"}, Operation: "first-admin", Kind: "user", ID: "user-1", After: map[string]any{"name": "ann", "roles": map[string]string{"*": "admin"}}},
	{Project: "default", Who: Who{Kind: "user", ID: "user-1", Name: "ann"}, From: "192.0.2.1", Operation: "change-machine", Kind: "machine", ID: "m1",
		Before: map[string]any{"interval": "1m0s", "bandwidth": 0, "name": "db1"}, After: map[string]any{"interval": "5m0s", "bandwidth": 0, "name": "db1"}},
	{Project: "default", Who: Who{Kind: "token", ID: "t1", Name: "a <script> & \"quotes\"", User: "user-1"}, From: "2001:db8::1", Operation: "remove-restpoint", Kind: "restpoint", ID: "r1",
		Before: map[string]any{"id": "r1", "size": int64(1) << 60}},
}

// TestVectors: the format of SPEC.md. The file is never changed: a new version of the format gets another.
func TestVectors(t *testing.T) {
	w := newWorld(t, nil)
	w.add(samples...)
	want, err := os.ReadFile("testdata/v1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if got := w.export(); !bytes.Equal(got, want) {
		t.Errorf("got\n%s", got)
	}
	spec, err := os.ReadFile("SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(want) {
		if !bytes.Contains(spec, bytes.TrimSpace(line)) {
			t.Errorf("SPEC.md does not show %s", line)
		}
	}
	head, err := VerifyExport(bytes.NewReader(want), Mark{})
	if err != nil || head.Sequence != 3 {
		t.Errorf("%+v, %v", head, err)
	}
}

// TestShellVerifies runs the check of SPEC.md, which is none of ours.
func TestShellVerifies(t *testing.T) {
	spec, err := os.ReadFile("SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(spec), "```sh\n")
	script, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("SPEC.md has no script")
	}
	good, err := os.ReadFile("testdata/v1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSpace(string(good))+"\n", "\n")[:3]
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"whole": {string(good), true}, "changed": {strings.Replace(string(good), "5m0s", "9m0s", 1), false},
		"removed": {lines[0] + lines[2], false}, "moved": {lines[0] + lines[2] + lines[1], false},
	} {
		file := filepath.Join(t.TempDir(), "audit.jsonl")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "bash", "-c", script, "check", file).CombinedOutput()
		if (err == nil) != c.ok {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestVerifyFinds(t *testing.T) {
	const lines = 12
	reseal := func(b []byte, change func(*Line)) []byte {
		var l Line
		if err := json.Unmarshal(b, &l); err != nil {
			t.Fatal(err)
		}
		change(&l)
		b, _, err := seal(&l)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	edits := map[string]func(all [][]byte) [][]byte{
		"a byte": func(all [][]byte) [][]byte {
			all[4] = bytes.Replace(all[4], []byte("ann"), []byte("eve"), 1)
			return all
		},
		"the first": func(all [][]byte) [][]byte {
			all[0] = bytes.Replace(all[0], []byte("ann"), []byte("eve"), 1)
			return all
		},
		"the last": func(all [][]byte) [][]byte {
			all[lines-1] = bytes.Replace(all[lines-1], []byte("ann"), []byte("eve"), 1)
			return all
		},
		"a line with its hash": func(all [][]byte) [][]byte { all[4] = reseal(all[4], func(l *Line) { l.Who.Name = "eve" }); return all },
		"the last with its hash": func(all [][]byte) [][]byte {
			all[lines-1] = reseal(all[lines-1], func(l *Line) { l.Who.Name = "eve" })
			return all
		},
		"the first with its hash": func(all [][]byte) [][]byte { all[0] = reseal(all[0], func(l *Line) { l.Who.Name = "eve" }); return all },
		"a hash": func(all [][]byte) [][]byte {
			all[4] = append(all[4][:len(all[4])-66:len(all[4])-66], strings.Repeat("0", 64)+`"}`...)
			return all
		},
		"no line":               func(all [][]byte) [][]byte { all[4] = []byte("{}"); return all },
		"removed":               func(all [][]byte) [][]byte { all[4] = nil; return all },
		"removed and closed up": func(all [][]byte) [][]byte { return append(all[:4], all[5:]...) },
		"the first removed":     func(all [][]byte) [][]byte { all[0] = nil; return all },
		"the last removed":      func(all [][]byte) [][]byte { return all[:lines-1] },
		"all removed":           func(all [][]byte) [][]byte { return nil },
		"moved":                 func(all [][]byte) [][]byte { all[4], all[5] = all[5], all[4]; return all },
		"moved with their numbers": func(all [][]byte) [][]byte {
			all[4], all[5] = reseal(all[5], func(l *Line) { l.Sequence = 5 }), reseal(all[4], func(l *Line) { l.Sequence = 6 })
			return all
		},
		"one put twice": func(all [][]byte) [][]byte { all[5] = all[4]; return all },
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.add(slices.Repeat(samples[1:2], lines)...)
			if r, err := w.Verify(t.Context()); err != nil || r.Lines != lines {
				t.Fatal(r, err)
			}
			rows := bytes.Split(bytes.TrimSpace(w.export()), []byte("\n"))
			for i := range rows {
				rows[i] = bytes.Clone(rows[i])
			}
			rows = edit(rows)
			if err := w.db.Update(t.Context(), func(tx store.Writer) error {
				for i := range uint64(lines) {
					if err := tx.Delete(tableLines, key(i+1)); err != nil {
						return err
					}
					if i < uint64(len(rows)) && rows[i] != nil {
						if err := tx.Put(tableLines, key(i+1), rows[i]); err != nil {
							return err
						}
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			var broken *Broken
			if _, err := w.Verify(t.Context()); !errors.As(err, &broken) {
				t.Errorf("got %v", err)
			}
			if !strings.Contains(name, "last") && len(rows) > 0 { // what follows the last line, an export cannot say
				if _, err := VerifyExport(bytes.NewReader(w.export()), Mark{}); !errors.As(err, &broken) {
					t.Errorf("export: got %v", err)
				}
			}
		})
	}
}

// TestKnownMarks: who writes the store can make the chain anew, but not so that it goes through a mark that was kept elsewhere.
func TestKnownMarks(t *testing.T) {
	w := newWorld(t, nil)
	w.add(samples...)
	known, err := w.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.add(samples...)
	if r, err := w.Verify(t.Context(), known); err != nil || r.Known != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	forged := newWorld(t, nil)
	forged.add(slices.Repeat(samples[:1], 6)...)
	var broken *Broken
	if _, err := forged.Verify(t.Context(), known); !errors.As(err, &broken) || broken.Sequence != 3 {
		t.Errorf("made anew: %v", err)
	}
	short := newWorld(t, nil)
	short.add(samples[:2]...)
	if _, err := short.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := short.Verify(t.Context(), known); !errors.As(err, &broken) {
		t.Errorf("cut off: %v", err)
	}
}

func TestNumberOfLinesIsBounded(t *testing.T) {
	w := newWorld(t, &Options{MaxLines: 10})
	for i := range 35 {
		w.add(Change{Operation: fmt.Sprint(i)})
	}
	r, err := w.Verify(t.Context(), Mark{Sequence: 3, Hash: strings.Repeat("1", 64)})
	if err != nil || r.Lines != 10 || r.First.Sequence != 25 || r.Known != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if head, err := VerifyExport(bytes.NewReader(w.export()), r.First); err != nil || head != r.Head {
		t.Errorf("%+v, %v", head, err)
	}
	w.Log = New(w.db, w.clock, &Options{MaxLines: 4})
	w.add(Change{Operation: "last"})
	lines, next, err := w.List(t.Context(), Filter{}, 0, 100)
	if err != nil || len(lines) != 4 || next != 0 || lines[0].Operation != "last" {
		t.Errorf("%d lines, next %d, %v", len(lines), next, err)
	}
	w.Log = New(w.db, w.clock, nil)
	w.add(slices.Repeat([]Change{{Operation: "more"}}, 2*cutAtOnce)...)
	w.Log = New(w.db, w.clock, &Options{MaxLines: 1})
	for range 3 {
		w.add(Change{Operation: "cut"})
	}
	if r, err := w.Verify(t.Context()); err != nil || r.Lines != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestList(t *testing.T) {
	w := newWorld(t, nil)
	var all []Change
	for i := range 1050 {
		c := Change{Project: "a", Who: Who{Kind: "user", ID: "user-1", Name: "ann"}, Operation: "even", Kind: "machine", ID: fmt.Sprint("m", i%7)}
		if i%2 == 1 {
			c.Project, c.Who.Name, c.Operation = "b", "bob", "odd"
		}
		all = append(all, c)
	}
	w.add(all...)
	for name, c := range map[string]struct {
		f    Filter
		want int
	}{
		"all": {Filter{}, 1050}, "project": {Filter{Project: "b"}, 525}, "who": {Filter{Who: "ann"}, 525}, "id": {Filter{Kind: "machine", ID: "m3"}, 150},
		"nothing": {Filter{Operation: "none"}, 0}, "since": {Filter{Since: w.clock.Now().Add(-100 * time.Second)}, 100}, "until": {Filter{Until: w.clock.Now().Add(-950 * time.Second)}, 100},
	} {
		seen, before, last := 0, uint64(0), uint64(1<<62)
		for pages := 0; ; pages++ {
			lines, next, err := w.List(t.Context(), c.f, before, 199)
			if err != nil || pages > 100 {
				t.Fatal(err)
			}
			for _, l := range lines {
				if seen++; l.Sequence >= last || !c.f.takes(&l) {
					t.Fatalf("%s: line %d after %d", name, l.Sequence, last)
				}
				last = l.Sequence
			}
			if before = next; next == 0 {
				break
			}
		}
		if seen != c.want {
			t.Errorf("%s: %d lines, want %d", name, seen, c.want)
		}
	}
	if lines, next, err := w.List(t.Context(), Filter{}, 3, 1<<30); err != nil || len(lines) != 2 || next != 0 {
		t.Errorf("%d, %d, %v", len(lines), next, err)
	}
}

// TestTogether writes, lists, exports and verifies at once.
func TestTogether(t *testing.T) {
	w := newWorld(t, &Options{MaxLines: 20})
	ctx := context.WithoutCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if err := w.Record(ctx, samples[1]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if _, err := w.Verify(ctx); err != nil {
				var b *Broken
				if !errors.As(err, &b) || !strings.Contains(b.Reason, "missing") { // dropped between two transactions
					t.Error(err)
				}
			}
			if _, _, err := w.List(ctx, Filter{}, 0, 10); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := w.Record(gone, samples[0]); err != nil {
		t.Errorf("a change whose caller is gone is not told: %v", err)
	}
	if r, err := w.Verify(ctx); err != nil || r.Head.Sequence != 41 || r.Lines != 20 {
		t.Errorf("%+v, %v", r, err)
	}
}
