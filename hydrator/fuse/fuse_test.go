package fuse_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/hydrator/fuse"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a disk with a hole in [1 MiB, 2 MiB) and a place that cannot be read.
type memory struct {
	b   []byte
	bad int64 // 0: none
}

func (m *memory) Number() int { return 0 }
func (m *memory) Size() int64 { return int64(len(m.b)) }
func (m *memory) ReadContext(_ context.Context, p []byte, off int64) (int, error) {
	if m.bad > 0 && off <= m.bad && m.bad < off+int64(len(p)) {
		return 0, errors.New("staging has no usable copy")
	}
	return bytes.NewReader(m.b).ReadAt(p, off)
}

func (m *memory) Extent(_ context.Context, off, limit int64) (int64, bool, error) {
	switch {
	case off < 1<<20:
		return min(limit, 1<<20-off), false, nil
	case off < 2<<20:
		return min(limit, 2<<20-off), true, nil
	}
	return min(limit, m.Size()-off), false, nil
}

func mount(t *testing.T, d fuse.Disk, log io.Writer) (dir string) {
	t.Helper()
	roottest.Need(t, "mounting")
	dir = t.TempDir()
	m, err := fuse.New(dir, []fuse.Disk{d}, &fuse.Options{Name: "r1", Time: time.Unix(1700000000, 0), Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
		m.Wait()
	})
	return dir
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func TestFile(t *testing.T) {
	img := random(9<<20 + 777)
	clear(img[1<<20 : 2<<20])
	name := filepath.Join(mount(t, &memory{b: img}, t.Output()), fuse.Name(0))
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, img) {
		t.Fatalf("the file differs from the disk: %v", err)
	}
	st, err := os.Stat(name)
	if err != nil || st.Size() != int64(len(img)) || !st.ModTime().Equal(time.Unix(1700000000, 0)) || st.Mode() != 0o444 {
		t.Errorf("%+v, %v", st, err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		off    int64
		whence int
		want   int64
	}{{0, unix.SEEK_HOLE, 1 << 20}, {1<<20 + 5, unix.SEEK_DATA, 2 << 20}, {1<<20 + 5, unix.SEEK_HOLE, 1<<20 + 5}, {3 << 20, unix.SEEK_HOLE, int64(len(img))}} {
		if got, err := unix.Seek(int(f.Fd()), c.off, c.whence); err != nil || got != c.want {
			t.Errorf("seek %d from %d: %d, %v; want %d", c.whence, c.off, got, err, c.want)
		}
	}
	for what, err := range map[string]error{
		"write":  func() error { _, err := os.OpenFile(name, os.O_RDWR, 0); return err }(),
		"create": os.WriteFile(filepath.Join(filepath.Dir(name), "x"), nil, 0o600),
		"remove": os.Remove(name),
		"chmod":  os.Chmod(name, 0o777),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}
func (b *lockedBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

func TestErrorIsEIO(t *testing.T) {
	img := random(8 << 20)
	var log lockedBuffer
	name := filepath.Join(mount(t, &memory{b: img, bad: 5 << 20}, &log), fuse.Name(0))
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(make([]byte, 4096), 5<<20); !errors.Is(err, syscall.EIO) {
		t.Errorf("read of a damaged place: %v", err)
	}
	if !strings.Contains(log.String(), "no usable copy") || !strings.Contains(log.String(), fuse.Name(0)) {
		t.Errorf("log: %s", log.String())
	}
	got := make([]byte, 4096)
	if _, err := f.ReadAt(got, 100); err != nil || !bytes.Equal(got, img[100:4196]) {
		t.Errorf("read beside the damaged place: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	roottest.Need(t, "mounting")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "none"), filepath.Join(dir, "precious")} {
		if _, err := fuse.New(d, nil, nil); err == nil {
			t.Errorf("mounted on %s", d)
		}
	}
	empty := t.TempDir()
	m, err := fuse.New(empty, []fuse.Disk{&memory{b: make([]byte, 4096)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(empty, fuse.Name(0)))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); err == nil {
		t.Error("unmounted while a file is open")
	}
	f.Close()
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	m.Wait()
}
