package state_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/chunker"
)

func open(t *testing.T, path string) *state.Dir {
	t.Helper()
	d, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDirectoryHasOneUser, and no generation is given twice.
func TestDirectoryHasOneUser(t *testing.T) {
	path := t.TempDir()
	seen := map[uint64]bool{}
	for range 3 {
		d := open(t, path)
		if _, err := state.Open(path); !errors.Is(err, state.ErrLocked) {
			t.Fatalf("a second user: %v", err)
		}
		for range 2 {
			g, err := d.NextGeneration()
			if err != nil || g == 0 || seen[g] {
				t.Fatalf("generation %d, %v", g, err)
			}
			seen[g] = true
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// record seals a change of chunk index to id as restpoint.
func record(t *testing.T, b *state.Base, restpoint string, index int64, id chunker.ID) {
	t.Helper()
	r, err := b.Record(chunker.Layout{Size: 8 << 20, ChunkSize: chunker.MinSize})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Set(index, id); err != nil {
		t.Fatal(err)
	}
	if err := r.Seal(&state.BaseInfo{Restpoint: restpoint, Size: 8 << 20, ChunkSize: chunker.MinSize}); err != nil {
		t.Fatal(err)
	}
}

// TestBaseSettles: what the master listed decides which of two trees the base is after a crash.
func TestBaseSettles(t *testing.T) {
	one, two := chunker.ID{1}, chunker.ID{2}
	for name, c := range map[string]struct {
		last  string
		want  chunker.ID // of chunk 5
		based bool
		spoil func(t *testing.T, pending string)
	}{
		"listed":         {"r2", two, true, nil},
		"not listed":     {"r1", one, true, nil},
		"something else": {"r9", chunker.Zero, false, nil},
		"listed, but damaged": {"r2", chunker.Zero, false, func(t *testing.T, p string) {
			b, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			b[12] ^= 1
			if err := os.WriteFile(p, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, t.TempDir())
			defer func() { _ = d.Close() }()
			b, err := state.OpenBase(d, "disk", "")
			if err != nil {
				t.Fatal(err)
			}
			record(t, b, "r1", 5, one)
			if err := b.Apply(); err != nil {
				t.Fatal(err)
			}
			b.Close()
			if b, err = state.OpenBase(d, "disk", "r1"); err != nil || b.Info() == nil {
				t.Fatalf("no base after it was applied: %v", err)
			}
			record(t, b, "r2", 5, two) // and here the agent is killed
			b.Close()
			if c.spoil != nil {
				entries, err := os.ReadDir(d.Path("base"))
				if err != nil || len(entries) != 1 {
					t.Fatalf("%v, %v", entries, err)
				}
				c.spoil(t, d.Path("base/"+entries[0].Name()+"/pending"))
			}
			for range 2 { // settling again changes nothing
				if b, err = state.OpenBase(d, "disk", c.last); err != nil {
					t.Fatal(err)
				}
				ids := make([]chunker.ID, 1)
				err := b.Read(5, ids)
				had := b.Info() != nil
				if err != nil || had != c.based || had && ids[0] != c.want {
					t.Errorf("base %v, chunk %s, %v", had, ids[0], err)
				}
				b.Close()
			}
		})
	}
}

// TestBaseAppliesAgain: a crash at any step of applying is mended by applying again, for changes and for whole bases.
func TestBaseAppliesAgain(t *testing.T) {
	for name, full := range map[string]bool{"changes": false, "whole": true} {
		t.Run(name, func(t *testing.T) {
			d := open(t, t.TempDir())
			defer func() { _ = d.Close() }()
			b, err := state.OpenBase(d, "disk", "")
			if err != nil {
				t.Fatal(err)
			}
			record(t, b, "r1", 5, chunker.ID{1})
			if err := b.Apply(); err != nil {
				t.Fatal(err)
			}
			b.Close()
			if b, err = state.OpenBase(d, "disk", "r1"); err != nil {
				t.Fatal(err)
			}
			if full {
				if err := b.Drop(); err != nil {
					t.Fatal(err)
				}
			}
			record(t, b, "r2", 9, chunker.ID{2})
			b.Close()
			entries, err := os.ReadDir(d.Path("base"))
			if err != nil || len(entries) != 1 {
				t.Fatalf("%v, %v", entries, err)
			}
			// Killed right after the old base was put away.
			if err := os.Remove(d.Path("base/" + entries[0].Name() + "/base.json")); err != nil && !full {
				t.Fatal(err)
			}
			if b, err = state.OpenBase(d, "disk", "r2"); err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			want := []chunker.ID{5: {1}, 9: {2}}
			if full {
				want[5] = chunker.Zero
			}
			got := make([]chunker.ID, len(want))
			if err := b.Read(0, got); err != nil || b.Info() == nil || !slices.Equal(got, want) {
				t.Errorf("base %+v: %v, %v", b.Info(), got, err)
			}
		})
	}
}
