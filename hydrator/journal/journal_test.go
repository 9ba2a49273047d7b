package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/volume"
)

func content(name string, root byte) Content {
	return Content{Machine: "m", Disk: "d", Restpoint: name, Size: 1 << 20, ChunkSize: chunker.MinSize, Root: chunker.ID{root}}
}

var vol = volume.Identity{Dev: 1, Inode: 2, Size: 3, Modified: 4}

func TestStates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v"+Suffix)
	a, b, c := content("a", 1), content("b", 2), content("c", 3)
	large := content("large", 4)
	large.ChunkSize *= 2
	var j *Journal
	check := func(step string, err error, want State) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		again, err := Open(path)
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		want.Volume = vol
		if got := again.State(); !reflect.DeepEqual(got, want) || !again.Found() {
			t.Errorf("%s: %+v, want %+v", step, got, want)
		}
		j = again
	}
	j, err := Open(path)
	if err != nil || j.Found() {
		t.Fatalf("%v, %v", j, err)
	}
	check("fresh", j.BeginFresh(vol, a), State{To: &a, Over: []Content{a.Zeroed()}})
	check("advance", j.Advance(5), State{To: &a, Over: []Content{a.Zeroed()}, Done: 5})
	check("not back", j.Advance(4), State{To: &a, Over: []Content{a.Zeroed()}, Done: 5})
	check("the same again", j.Begin(vol, a, false), State{To: &a, Over: []Content{a.Zeroed()}, Done: 5})
	check("finish", j.Finish(vol), State{Holds: &a})
	check("difference", j.Begin(vol, b, false), State{To: &b, Over: []Content{a}})
	check("advance b", j.Advance(3), State{To: &b, Over: []Content{a}, Done: 3})
	check("another after a crash", j.Begin(vol, c, false), State{To: &c, Over: []Content{a, b}})
	check("back", j.Begin(vol, a, false), State{To: &a, Over: []Content{a, b, c}})
	check("and again", j.Begin(vol, b, false), State{To: &b, Over: []Content{a, b, c, a}})
	check("too many", j.Begin(vol, c, false), State{To: &c, Unknown: true})
	check("unknown stays", j.Begin(vol, a, false), State{To: &a, Unknown: true})
	check("finish a", j.Finish(vol), State{Holds: &a})
	check("other chunks", j.Begin(vol, large, false), State{To: &large, Unknown: true})
	check("finish large", j.Finish(vol), State{Holds: &large})
	check("in doubt", j.Begin(vol, large, true), State{To: &large, Unknown: true})
	check("advance large", j.Advance(2), State{To: &large, Unknown: true, Done: 2})
	check("in doubt again", j.Begin(vol, large, true), State{To: &large, Unknown: true})
	check("finish large", j.Finish(vol), State{Holds: &large})
	check("difference to itself", j.Begin(vol, large, false), State{To: &large, Over: []Content{large}})
	check("forget", j.Forget(), State{To: &large, Unknown: true})
	check("without a journal", New(path).Begin(vol, a, false), State{To: &a, Unknown: true})
}

func sample(t testing.TB) []byte {
	to := content("a", 1)
	b, err := Encode(&State{Volume: vol, To: &to, Over: []Content{content("b", 2)}, Done: 7})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	good := sample(t)
	if _, err := Decode(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := Decode(bad); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, err := Decode(good[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
	newer := bytes.Clone(good)
	newer[4] = 9
	path := filepath.Join(t.TempDir(), "j")
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrVersion) {
		t.Errorf("newer version: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(magic))
	for _, s := range []State{{}, {Done: -1}, {Holds: &Content{}}, {Holds: &Content{Size: -1, ChunkSize: 3}}} {
		b, err := Encode(&s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if s2, err := Decode(again); err != nil || !reflect.DeepEqual(s, s2) {
			t.Errorf("%+v became %+v, %v", s, s2, err)
		}
	})
}
