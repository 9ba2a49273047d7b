package browser

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source gives out jobs of restpoints by name.
type source struct {
	*hydratortest.World
	restpoints map[string]*hydratortest.Replicated
	jobs       atomic.Int64

	mu   sync.Mutex
	last *wire.Job // guarded by mu
}

func (s *source) Export(_ context.Context, restpoint string) (*wire.Job, error) {
	rp := s.restpoints[restpoint]
	if rp == nil {
		return nil, wire.NewProblem(404, wire.CodeNotFound, "there is no restpoint %s", restpoint)
	}
	job := s.Job(wire.JobExport, rp)
	job.ID, job.Lease.TTL = fmt.Sprintf("job-%d", s.jobs.Add(1)), wire.Duration(3*time.Second)
	s.mu.Lock()
	s.last = job
	s.mu.Unlock()
	return job, nil
}

// tree makes a folder with files of all kinds of sizes and names, and returns their contents by path.
func tree(t *testing.T, dir string, seed byte) map[string][]byte {
	t.Helper()
	noise := mrand.NewChaCha8([32]byte{seed})
	r := mrand.New(noise)
	files := map[string][]byte{}
	add := func(name string, b []byte) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
		files["/"+name] = b
	}
	for i := range 40 {
		b := make([]byte, r.IntN(1<<(4+i%16)))
		_, _ = noise.Read(b)
		add(fmt.Sprintf("d%d/f%d", i%5, i), b)
	}
	for _, name := range []string{"caf\xe9", "line\nbreak", `"quoted" & <b>`, "\u202egpj.exe", "100%25", "a+b c", "ünï€", `dev\x2dsda`} {
		add("names/"+name, []byte(name))
	}
	large := make([]byte, 3<<20)
	_, _ = noise.Read(large)
	add("large", large)
	if err := os.Symlink("/large", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	files["/link"] = large
	if err := os.Symlink("../..", filepath.Join(dir, "d0", "up")); err != nil {
		t.Fatal(err)
	}
	return files
}

func image(t *testing.T, dir string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image")
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-d", dir, file, "24M").CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type world struct {
	*source
	t     *testing.T
	files map[string][]byte
}

// newWorld has restpoints r0, r1, … with one disk, all the same.
func newWorld(t *testing.T, restpoints int) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, source: &source{World: hydratortest.NewWorld(t, nil), restpoints: map[string]*hydratortest.Replicated{}}, files: tree(t, dir, 1)}
	img := image(t, dir)
	for i := range restpoints {
		name := fmt.Sprintf("r%d", i)
		w.restpoints[name] = w.Replicate(t, name, hydratortest.Image{Data: img})
	}
	return w
}

func (w *world) browser(o *Options) *Browser {
	b := New(w.source, o)
	w.t.Cleanup(b.Close)
	return b
}

func all(names []string) ([]int, error) {
	places := make([]int, len(names))
	for i := range places {
		places[i] = i
	}
	return places, nil
}

func at(restpoint, path string) wire.FilePlace {
	return wire.FilePlace{Restpoint: restpoint, Path: path}
}

func read(t *testing.T, b *Browser, restpoint, path string) ([]byte, error) {
	t.Helper()
	content, size, err := b.Open(t.Context(), at(restpoint, path))
	if err != nil {
		return nil, err
	}
	defer content.Close()
	got, err := io.ReadAll(content)
	if err == nil && int64(len(got)) != size {
		t.Errorf("%q: %d bytes, said to be %d", path, len(got), size)
	}
	return got, err
}

// Every file of a file system that mkfs made comes out as it was, by many at once, through one job.
func TestEveryFile(t *testing.T) {
	w := newWorld(t, 1)
	b := w.browser(nil)
	var readers sync.WaitGroup
	var paths []string
	for p := range w.files {
		paths = append(paths, p)
	}
	for i := range 4 {
		readers.Go(func() {
			for n := i; n < len(paths); n += 2 {
				got, err := read(t, b, "r0", paths[n])
				if err != nil || !bytes.Equal(got, w.files[paths[n]]) {
					t.Errorf("%q: %d bytes of %d, %v", paths[n], len(got), len(w.files[paths[n]]), err)
				}
			}
		})
	}
	readers.Wait()
	list, err := b.List(t.Context(), at("r0", "/names"), all)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if want := w.files["/names/"+f.Name]; f.Type != wire.FileRegular || f.Size != int64(len(want)) || f.Mode != "-rw-r--r--" || f.Name != string(want) {
			t.Errorf("%+v", f)
		}
	}
	if len(list) != 8 {
		t.Errorf("%d names", len(list))
	}
	one, err := b.List(t.Context(), at("r0", "/d0/up/link"), all)
	if err != nil || len(one) != 1 || one[0].Name != "link" || one[0].Size != 3<<20 {
		t.Errorf("one file: %+v, %v", one, err)
	}
	root, err := b.List(t.Context(), at("r0", "/d0/.."), func(names []string) ([]int, error) { return []int{slices.Index(names, "link")}, nil })
	if err != nil || len(root) != 1 || root[0].Type != wire.FileLink || root[0].Link != "/large" {
		t.Errorf("one name: %+v, %v", root, err)
	}
	if n := w.jobs.Load(); n != 1 {
		t.Errorf("%d jobs", n)
	}
	b.Close()
	if done, failed := w.Ended(); len(done) != 1 || len(failed) != 0 {
		t.Errorf("jobs ended: %d done, %v", len(done), failed)
	}
}

func TestRefuses(t *testing.T) {
	w := newWorld(t, 1)
	b := w.browser(nil)
	noFS := w.Replicate(t, "empty", hydratortest.Image{Data: make([]byte, 1<<20)})
	w.restpoints["empty"] = noFS
	for name, c := range map[string]struct {
		at   wire.FilePlace
		code string
	}{
		"missing restpoint":    {at("x", "/"), wire.CodeNotFound},
		"missing disk":         {wire.FilePlace{Restpoint: "r0", Disk: 1, Path: "/"}, wire.CodeNotFound},
		"missing partition":    {wire.FilePlace{Restpoint: "r0", Partition: 3, Path: "/"}, wire.CodeNotFound},
		"missing file":         {at("r0", "/d0/nothing"), wire.CodeNotFound},
		"below a file":         {at("r0", "/large/x"), wire.CodeNotFound},
		"no file system":       {at("empty", "/"), wire.CodeUnsupported},
		"a folder as a file":   {at("r0", "/names"), wire.CodeConflict},
		"above the root is it": {at("r0", "/../../../d0"), wire.CodeConflict},
	} {
		_, _, err := b.Open(t.Context(), c.at)
		if !wire.HasCode(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	stop := errors.New("stop")
	if _, err := b.List(t.Context(), at("r0", "/"), func([]string) ([]int, error) { return nil, stop }); !errors.Is(err, stop) {
		t.Errorf("pick's error: %v", err)
	}
}

// Limits: so many questions, so many restpoints; who waits no longer is not waited for, and everything is given back.
func TestLimits(t *testing.T) {
	w := newWorld(t, 3)
	b := w.browser(&Options{Open: 2, Requests: 3})
	var held []io.ReadCloser
	for _, rp := range []string{"r0", "r1"} {
		c, _, err := b.Open(t.Context(), at(rp, "/large"))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if _, _, err := b.Open(t.Context(), at("r2", "/large")); !wire.HasCode(err, wire.CodeUnavailable) {
		t.Errorf("a third restpoint while two are read: %v", err)
	}
	c, _, err := b.Open(t.Context(), at("r0", "/large"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.List(t.Context(), at("r0", "/"), all); !wire.HasCode(err, wire.CodeUnavailable) {
		t.Errorf("a fourth question: %v", err)
	}
	for _, c := range append(held, c) {
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	}
	// The restpoint that was asked about longest ago makes room.
	for _, rp := range []string{"r2", "r0", "r1", "r2"} {
		if got, err := read(t, b, rp, "/large"); err != nil || !bytes.Equal(got, w.files["/large"]) {
			t.Errorf("%s: %d bytes, %v", rp, len(got), err)
		}
	}
	b.mu.Lock()
	if len(b.open) > 2 {
		t.Errorf("%d restpoints are open", len(b.open))
	}
	b.mu.Unlock()
}

func TestIdleEnds(t *testing.T) {
	w := newWorld(t, 1)
	b := w.browser(&Options{Idle: 20 * time.Millisecond})
	for range 2 {
		before, _ := w.Ended()
		if _, err := b.List(t.Context(), at("r0", "/"), all); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for done, _ := w.Ended(); len(done) == len(before); done, _ = w.Ended() {
			if time.Now().After(deadline) {
				t.Fatal("the job of a restpoint that nobody asks about does not end")
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// A caller who goes away, staging that hangs, a lease that is lost: each ends the question, and the next is answered.
func TestEnds(t *testing.T) {
	w := newWorld(t, 1)
	b := w.browser(&Options{Patience: 200 * time.Millisecond})
	hang, arrived := make(chan struct{}), make(chan struct{}, 100)
	w.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		arrived <- struct{}{}
		select {
		case <-hang:
		case <-r.Context().Done():
		}
		return false
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	go func() { <-arrived; cancel(gone) }()
	if _, err := b.List(ctx, at("r0", "/"), all); !errors.Is(err, gone) {
		t.Errorf("a caller who went away: %v", err)
	}
	if _, err := b.List(t.Context(), at("r0", "/"), all); !wire.HasCode(err, wire.CodeUnavailable) {
		t.Errorf("a folder that takes too long: %v", err)
	}
	close(hang)
	w.Intercept(nil)
	content, _, err := b.Open(t.Context(), at("r0", "/d0/f0"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // patience is for finding, not for reading
	if got, err := io.ReadAll(content); err != nil || !bytes.Equal(got, w.files["/d0/f0"]) {
		t.Errorf("after a while: %v", err)
	}
	w.mu.Lock()
	job := w.last
	w.mu.Unlock()
	w.Cancel(job.ID)
	deadline := time.Now().Add(40 * time.Second)
	for w.jobs.Load() == 1 {
		_, err := read(t, b, "r0", "/d0/f0")
		if err != nil && !wire.HasCode(err, wire.CodeUnavailable) || time.Now().After(deadline) {
			t.Fatalf("after the lease was lost: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := content.(io.Seeker).Seek(0, io.SeekStart); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(content); err == nil {
		t.Error("a file can be read after the lease was lost")
	}
	if err := content.Close(); err != nil {
		t.Error(err)
	}
}

// Whatever stands on a disk, the answer comes, and is one of those that are told.
func TestHostileDisks(t *testing.T) {
	dir := t.TempDir()
	files := tree(t, dir, 2)
	img := image(t, dir)
	w := &world{t: t, source: &source{World: hydratortest.NewWorld(t, nil), restpoints: map[string]*hydratortest.Replicated{}}}
	b := w.browser(&Options{Patience: 5 * time.Second})
	r := mrand.New(mrand.NewPCG(3, 3))
	for i := range 6 {
		bad := slices.Clone(img)
		for range 200 << (i % 6) { // mostly in what describes files
			bad[1024+r.IntN(2<<20)] = byte(r.Uint32())
		}
		name := fmt.Sprintf("bad%d", i)
		w.restpoints[name] = w.Replicate(t, name, hydratortest.Image{Data: bad})
		for p := range files {
			for _, err := range []error{
				func() error { _, err := read(t, b, name, p); return err }(),
				func() error { _, err := b.List(t.Context(), at(name, filepath.Dir(p)), all); return err }(),
			} {
				var problem *wire.Problem
				if err != nil && !errors.As(err, &problem) {
					t.Errorf("%s %q: %v", name, p, err)
				}
			}
		}
	}
}
