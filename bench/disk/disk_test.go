package disk

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
)

// sourceTree makes a folder of files of known content and time.
func sourceTree(t *testing.T, files int) string {
	t.Helper()
	dir := t.TempDir()
	old := time.Unix(1_700_000_000, 0)
	for i := range files {
		name := filepath.Join(dir, string(rune('a'+i%26)), "file"+strings.Repeat("x", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := writeContent(name, int64(10_000+i), NewContent(7, uint64(i), true)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuild(t *testing.T) {
	cache := t.TempDir()
	r := Recipe{Size: 64 << 20, Source: sourceTree(t, 40), Files: 8 << 20, Random: 2 << 20, Deleted: 3 << 20, Seed: 5}
	said := 0
	say := func(string, ...any) { said++ }
	image, err := Build(t.Context(), cache, r, say)
	if err != nil {
		t.Fatal(err)
	}
	if image.Size != r.Size || image.Data < r.Random+r.Deleted || image.Data > r.Size/2 {
		t.Errorf("image %+v does not fit its recipe", image)
	}
	if again, err := Build(t.Context(), cache, r, say); err != nil || again != image || said != 1 {
		t.Errorf("the second build gives %+v, %v, and said %d times that it builds", again, err, said)
	}
	defer func() {
		r.Seed++
		other, err := Build(t.Context(), cache, r, say)
		images, _ := filepath.Glob(filepath.Join(cache, "*"))
		if err != nil || len(images) != 1 || images[0] != other.Path {
			t.Errorf("another recipe leaves %q, %v; want only %s", images, err, other.Path)
		}
	}()
	content, err := os.ReadFile(image.Path)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]io.Reader{
		"a file of the source": NewContent(7, 3, true), "a random file": NewContent(5, 0, false), "what was deleted": NewContent(5, 1, false),
	} {
		block := make([]byte, 4096)
		_, _ = want.Read(block)
		if !bytes.Contains(content, block) {
			t.Errorf("the disk does not hold %s", name)
		}
	}
	check, err := measure.Tool(t.Context(), "e2fsck", "-f", "-n", image.Path)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("the file system is not clean: %v\n%s", err, out)
	}
	list, err := measure.Tool(t.Context(), "debugfs", "-R", "ls -p "+extraDir, image.Path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := list.Output()
	if err != nil || !strings.Contains(string(out), "/kept-0/") || strings.Contains(string(out), "/deleted-0/") {
		t.Errorf("the further files are not kept and deleted as they should: %v\n%s", err, out)
	}
}

func TestRecipeHashSeesChanges(t *testing.T) {
	r := Recipe{Size: 64 << 20, Source: sourceTree(t, 10), Files: 8 << 20, Seed: 5}
	hash := func(r Recipe) string {
		t.Helper()
		s, err := choose(r)
		if err != nil {
			t.Fatal(err)
		}
		return r.hash(s)
	}
	first := hash(r)
	if hash(r) != first {
		t.Error("the hash of one recipe differs between two calls")
	}
	other := r
	other.Random++
	if hash(other) == first {
		t.Error("another recipe has the same hash")
	}
	if err := os.WriteFile(filepath.Join(r.Source, "new"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if hash(r) == first {
		t.Error("a new file in the source does not change the hash")
	}
}

func TestChooseShare(t *testing.T) {
	r := Recipe{Size: 64 << 20, Source: sourceTree(t, 60), Files: 300_000}
	some, err := choose(r)
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, f := range some.list {
		total += onDisk(f.size)
	}
	if some.all || total > r.Files || total < r.Files/2 {
		t.Errorf("%d of 60 files, %d bytes, all %v; want about %d", len(some.list), total, some.all, r.Files)
	}
	r.Files = 8 << 20
	if all, err := choose(r); err != nil || !all.all || len(all.list) != 60 {
		t.Errorf("%d files, all %v, %v; want all 60", len(all.list), all.all, err)
	}
	for name, bad := range map[string]Recipe{
		"small": {Size: 1 << 20, Source: r.Source, Files: 1 << 10}, "overfull": {Size: 64 << 20, Source: r.Source, Files: 64 << 20},
		"no source": {Size: 64 << 20, Source: "/no/such", Files: 1 << 20}, "no file fits": {Size: 64 << 20, Source: r.Source, Files: 10},
	} {
		if _, err := choose(bad); err == nil {
			t.Errorf("%s: a bad recipe is taken", name)
		}
	}
}

func TestChangeAndUndo(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	const size = 64 << 20
	if err := Sparse(a, size, 8<<20, 16, 3); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
	if err := Compare(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
	before, err := Open(b)
	if err != nil {
		t.Fatal(err)
	}
	if before.Size != size || before.Data < 8<<20 || before.Data > 9<<20 {
		t.Errorf("sparse disk is %+v", before)
	}
	if n, err := Warm(t.Context(), b); err != nil || n != before.Data {
		t.Errorf("Warm read %d bytes, %v; want %d", n, err, before.Data)
	}
	c, err := Change(b, size/50, 9)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(size / 50 / ChangeExtent * ChangeExtent); c.Bytes() != want {
		t.Errorf("changed %d bytes, want %d", c.Bytes(), want)
	}
	differ := 0
	pa, _ := os.ReadFile(a)
	pb, _ := os.ReadFile(b)
	for off := 0; off < size; off += ChangeExtent {
		if !bytes.Equal(pa[off:off+ChangeExtent], pb[off:off+ChangeExtent]) {
			differ++
		}
	}
	if int64(differ)*ChangeExtent != c.Bytes() {
		t.Errorf("%d extents differ, want %d", differ, c.Bytes()/ChangeExtent)
	}
	if err := Compare(t.Context(), a, b); err == nil {
		t.Error("Compare sees no difference")
	}
	if err := c.Undo(); err != nil {
		t.Fatal(err)
	}
	if err := Compare(t.Context(), a, b); err != nil {
		t.Error(err)
	}
	if after, err := Open(b); err != nil || after.Data != before.Data {
		t.Errorf("after undo %+v, %v; was %+v", after, err, before)
	}
	if err := os.Truncate(b, size-1); err != nil {
		t.Fatal(err)
	}
	if err := Compare(t.Context(), a, b); err == nil {
		t.Error("Compare takes another size")
	}
	if _, err := Change(a, size+1, 1); err == nil {
		t.Error("Change takes more bytes than the disk has")
	}
}

func TestContent(t *testing.T) {
	read := func(seed, stream uint64, text bool) string {
		b := make([]byte, 1000)
		_, _ = NewContent(seed, stream, text).Read(b)
		return string(b)
	}
	if first, again := read(1, 1, false), read(1, 1, false); first != again {
		t.Error("the same seed gives other content")
	}
	if read(1, 1, false) == read(2, 1, false) || read(1, 1, false) == read(1, 2, false) {
		t.Error("another seed or stream gives the same content")
	}
	if s := read(1, 1, true); strings.Trim(s, "etaoinshrdlcumwfgypbvkjxqz .,;\n-") != "" {
		t.Errorf("text is %q", s)
	}
}
