package hydrator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/journal"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testChunk = chunker.MinSize

// image has zero areas, text, random bytes, chunks that repeat, and an odd tail.
func image(seed uint64, chunks int, tail int) []byte {
	r := mrand.New(mrand.NewPCG(seed, 1))
	b := make([]byte, chunks*testChunk+tail)
	for i := 0; i < len(b); i += testChunk {
		c := b[i:min(len(b), i+testChunk)]
		switch r.IntN(5) {
		case 0, 1:
		case 2:
			copy(c, bytes.Repeat([]byte(fmt.Sprintf("line %d of a log file\n", r.IntN(1000))), testChunk/20))
		case 3:
			fillRandom(r, c)
		case 4:
			copy(c, bytes.Repeat([]byte{byte(r.IntN(3) + 1)}, testChunk))
		}
	}
	return b
}

func fillRandom(r *mrand.Rand, c []byte) {
	for i := range c {
		c[i] = byte(r.Uint32())
	}
}

// changed is a copy of b with some chunks replaced, zeroed and filled.
func changed(seed uint64, b []byte, n int) []byte {
	r := mrand.New(mrand.NewPCG(seed, 2))
	b = bytes.Clone(b)
	for range n {
		at := r.IntN(len(b)/testChunk) * testChunk
		c := b[at : at+testChunk]
		if r.IntN(3) == 0 {
			clear(c)
		} else {
			fillRandom(r, c[:1000])
		}
	}
	return b
}

func newReader(t testing.TB, w *hydratortest.World, rp *hydratortest.Replicated) *reader.Reader {
	t.Helper()
	r := openReader(t, w, rp)
	t.Cleanup(r.Close)
	return r
}

// openReader is newReader for those who close it themselves: its buffers are large, and a test that restores often would hold all of them.
func openReader(t testing.TB, w *hydratortest.World, rp *hydratortest.Replicated) *reader.Reader {
	t.Helper()
	r, err := reader.New(w.Job(wire.JobExport, rp), w, &reader.Options{Backoff: time.Millisecond, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func restoreTo(t testing.TB, w *hydratortest.World, rp *hydratortest.Replicated, path string, o restoreOptions) (wire.JobResult, error) {
	t.Helper()
	r := openReader(t, w, rp)
	defer r.Close()
	return restore(context.Background(), r, rp.Restpoint, 0, path, o)
}

func mustRestore(t testing.TB, w *hydratortest.World, rp *hydratortest.Replicated, path string, want []byte, o restoreOptions) wire.JobResult {
	t.Helper()
	res, err := restoreTo(t, w, rp, path, o)
	if err != nil {
		t.Fatalf("restore %s: %v", rp.Restpoint.ID, err)
	}
	mustHold(t, path, want)
	return res
}

func mustHold(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < len(want) {
		t.Fatalf("%s has %d bytes, want %d", path, len(got), len(want))
	}
	for i := 0; i < len(want); i += testChunk {
		end := min(len(want), i+testChunk)
		if !bytes.Equal(got[i:end], want[i:end]) {
			t.Fatalf("%s differs from the image in chunk %d", path, i/testChunk)
		}
	}
}

func TestRestoreThereAndBack(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	first := image(1, 300, 12345)
	second := changed(2, first, 20)
	grown := append(bytes.Clone(second), image(3, 100, 777)...)
	shrunk := bytes.Clone(first[:150*testChunk+99])
	images := [][]byte{first, second, grown, shrunk}
	var rps []*hydratortest.Replicated
	for i, img := range images {
		rps = append(rps, w.Replicate(t, fmt.Sprintf("r%d", i), hydratortest.Image{Data: img}))
	}
	path := filepath.Join(t.TempDir(), "disk.raw")
	for step, i := range []int{0, 1, 0, 2, 3, 2, 1, 1, 3, 0} {
		res := mustRestore(t, w, rps[i], path, images[i], restoreOptions{batch: 50})
		st, err := os.Stat(path)
		if err != nil || st.Size() != int64(len(images[i])) {
			t.Fatalf("step %d: %v, size %d", step, err, st.Size())
		}
		if step == 1 && res.Written > 30*testChunk {
			t.Errorf("a difference of at most 20 chunks wrote %d bytes", res.Written)
		}
		if step == 7 && (res.Written != 0 || res.Fetched != 0) {
			t.Errorf("nothing to do, but wrote %d bytes and read %d", res.Written, res.Fetched)
		}
	}
	j, err := journal.Open(path + journal.Suffix)
	if err != nil || j.State().Holds == nil || j.State().Holds.Restpoint != "r0" {
		t.Errorf("journal: %+v, %v", j.State(), err)
	}
}

func TestRestoreIsSparseAndCoalesced(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := make([]byte, 1000*testChunk)
	fillRandom(mrand.New(mrand.NewPCG(4, 4)), img[500*testChunk:540*testChunk])
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img, PackSize: 8 << 20})
	path := filepath.Join(t.TempDir(), "disk.raw")
	before := w.Gets()
	mustRestore(t, w, rp, path, img, restoreOptions{})
	if n := w.Gets() - before; n > 6 {
		t.Errorf("%d requests for 40 adjacent chunks and a tree of 3 levels", n)
	}
	if used, err := allocated(path); err != nil || used > 41*testChunk {
		t.Errorf("the file takes %d bytes of disk, %v", used, err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(5, 20, 0)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	other := w.Replicate(t, "o", hydratortest.Image{Data: img}, hydratortest.Image{Data: image(6, 20, 0)})
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	touched := filepath.Join(dir, "touched")
	mustRestore(t, w, rp, touched, img, restoreOptions{})
	if err := os.Chtimes(touched, time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	replaced := filepath.Join(dir, "replaced")
	mustRestore(t, w, rp, replaced, img, restoreOptions{})
	if err := os.Remove(replaced); err != nil {
		t.Fatal(err)
	}
	write("replaced", []byte("precious"))
	badJournal := filepath.Join(dir, "badjournal")
	mustRestore(t, w, rp, badJournal, img, restoreOptions{})
	write("badjournal"+journal.Suffix, []byte("OMVJ nonsense that is long enough to be looked at in some detail"))
	held := filepath.Join(dir, "held")
	mustRestore(t, w, rp, held, img, restoreOptions{})

	for name, c := range map[string]struct {
		path      string
		rp        *hydratortest.Replicated
		disk      int
		want      error
		overwrite bool // helps
	}{
		"file with content":  {write("full", []byte("precious")), rp, 0, volume.ErrNotEmpty, true},
		"directory":          {dir, rp, 0, volume.ErrKind, false},
		"character device":   {"/dev/null", rp, 0, volume.ErrKind, false},
		"changed since":      {touched, rp, 0, volume.ErrNotEmpty, true},
		"replaced since":     {replaced, rp, 0, volume.ErrNotEmpty, true},
		"journal is damaged": {badJournal, rp, 0, volume.ErrNotEmpty, true},
		"another disk":       {held, other, 1, volume.ErrNotEmpty, true},
	} {
		before, _ := os.ReadFile(c.path)
		_, err := restore(context.Background(), newReader(t, w, c.rp), c.rp.Restpoint, c.disk, c.path, restoreOptions{})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if after, _ := os.ReadFile(c.path); !bytes.Equal(before, after) {
			t.Errorf("%s: the refused target was changed", name)
		}
		if !c.overwrite {
			continue
		}
		if _, err := restore(context.Background(), newReader(t, w, c.rp), c.rp.Restpoint, c.disk, c.path, restoreOptions{overwrite: true}); err != nil {
			t.Errorf("%s, overwritten: %v", name, err)
		}
		if c.disk == 0 {
			mustHold(t, c.path, img)
		}
	}
	if _, err := restore(context.Background(), newReader(t, w, rp), rp.Restpoint, 1, filepath.Join(dir, "x"), restoreOptions{}); err == nil {
		t.Error("restored disk 1 of a machine with one disk")
	}
}

func TestDoubtIsSettledByReading(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(7, 200, 5)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	path := filepath.Join(t.TempDir(), "disk.raw")
	mustRestore(t, w, rp, path, img, restoreOptions{})
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 77*testChunk + 3, int64(len(img)) - 1} {
		if _, err := f.WriteAt([]byte{0xEE}, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	res := mustRestore(t, w, rp, path, img, restoreOptions{verify: true})
	if res.Chunks > 3 {
		t.Errorf("fetched %d chunks to mend 3", res.Chunks)
	}
}

// A warm volume whose old restpoint was deleted, with its tree, costs reading and not fetching.
func TestOldTreeIsGone(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	first := image(8, 300, 0)
	second := changed(9, first, 5)
	r1 := w.Replicate(t, "r1", hydratortest.Image{Data: first})
	path := filepath.Join(t.TempDir(), "disk.raw")
	mustRestore(t, w, r1, path, first, restoreOptions{})
	r2 := w.Replicate(t, "r2", hydratortest.Image{Data: second})
	w.Forget(r1.Restpoint.Disks[0].Root)
	res := mustRestore(t, w, r2, path, second, restoreOptions{batch: 40})
	if res.Chunks > 5 {
		t.Errorf("fetched %d chunks for a difference of 5", res.Chunks)
	}
}
