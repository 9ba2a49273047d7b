package disks

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/roottest"
)

// memory is a disk.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return bytes.NewReader(m).ReadAt(p, off) }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
func (memory) Sync() error                                { return nil }

// Whatever is read and written, wherever pieces begin and end, is as in one range.
func TestJoin(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	disks := []file{make(memory, 1000), make(memory, 1000)}
	pieces := []Piece{{1, 100, 7}, {0, 0, 512}, {1, 500, 1}, {0, 600, 400}}
	j := join(disks, pieces)
	if j.Size() != 920 {
		t.Fatalf("size %d", j.Size())
	}
	whole := make([]byte, j.Size())
	for range 2000 {
		off := random.Int64N(j.Size())
		b := make([]byte, random.Int64N(j.Size()-off+1))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		if n, err := j.WriteAt(b, off); err != nil || n != len(b) {
			t.Fatalf("write: %d, %v", n, err)
		}
		copy(whole[off:], b)
		off = random.Int64N(j.Size())
		got := make([]byte, random.Int64N(j.Size()-off+1))
		if n, err := j.ReadAt(got, off); err != nil || n != len(got) || !bytes.Equal(got, whole[off:off+int64(n)]) {
			t.Fatalf("read: %d, %v", n, err)
		}
	}
	if n, err := j.ReadAt(make([]byte, 10), 915); n != 5 || err != io.EOF { //nolint:errorlint // io.ReaderAt has it so
		t.Errorf("at the end: %d, %v", n, err)
	}
	for _, off := range []int64{-1, 915, 1 << 40} {
		if _, err := j.WriteAt(make([]byte, 10), off); err == nil {
			t.Errorf("wrote at %d", off)
		}
	}
}

// scattered is a file system in three pieces on two disks.
func scattered(t *testing.T) ([]Disk, Volume) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	v := Volume{LV: "vg/root", Type: "ext4", Size: 24 << 20, Pieces: []Piece{{1, 4 << 20, 8 << 20}, {0, 2 << 20, 12 << 20}, {1, 20 << 20, 4 << 20}}}
	whole := filepath.Join(t.TempDir(), "whole.img")
	run(t, "sh", "-c", `truncate -s 24M "$1" && mkfs.ext4 -q -F "$1"`, "sh", whole)
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	var list []Disk
	var files []file
	for _, name := range []string{"0", "1"} {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err == nil {
			err = f.Truncate(32 << 20)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		list, files = append(list, Disk{Path: f.Name(), Size: 32 << 20}), append(files, f)
	}
	if _, err := join(files, v.Pieces).WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return list, v
}

// gathered is the file system in a file again.
func gathered(t *testing.T, list []Disk, v Volume) string {
	t.Helper()
	var files []file
	for _, d := range list {
		f, err := os.Open(d.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	b := make([]byte, v.Size)
	if _, err := join(files, v.Pieces).ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "gathered.img")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A volume in pieces is mounted as any other, and all that was written to it is on the disks when the Space is gone.
func TestMountPieces(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	list, v := scattered(t)
	if err := probe(&v, list); err != nil || v.Type != "ext4" || v.UUID == "" {
		t.Errorf("%+v, %v", v, err)
	}
	content := make([]byte, 15<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
	err := Private(t.Context(), func(s *Space) error {
		if err := s.Mount(list, v, "", nil, true); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.Dir(), "x"), nil, 0o600); err == nil {
			t.Error("a read-only mount was written to")
		}
		if err := s.Unmount(); err != nil {
			return err
		}
		if err := s.Mount(list, v, "", nil, false); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(s.Dir(), "file"), content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	path := gathered(t, list, v)
	run(t, "e2fsck", "-fn", path)
	to := filepath.Join(t.TempDir(), "file")
	run(t, "debugfs", "-R", "dump file "+to, path)
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file has %d bytes, %v", len(got), err)
	}
}

// When the process is killed all goes, and the disks hold a file system that can be used.
func TestKilledWithPieces(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	list, v := scattered(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestMountsForKilled$")
	cmd.Env = append(os.Environ(), "OPENMIGRATE_TEST_PIECES="+list[0].Path+":"+list[1].Path)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(out, b); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	deadline := time.Now().Add(30 * time.Second)
	for serving(t, list[0].Path) && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond) // it is of another process: nothing tells when it is gone
	}
	if serving(t, list[0].Path) {
		t.Error("the process that showed the volume is still there")
	}
	path := gathered(t, list, v)
	run(t, "sh", "-c", `e2fsck -fy "$1" || [ $? -eq 1 ]`, "sh", path)
	if text := run(t, "debugfs", "-R", "stat first", path); !strings.Contains(text, "Size: 3") {
		t.Errorf("what was synced is not there: %s", text)
	}
}

// serving reports whether a process has the disk open.
func serving(t *testing.T, path string) bool {
	t.Helper()
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == path {
			return true
		}
	}
	return false
}

// TestMountsForKilled is what TestKilledWithPieces kills.
func TestMountsForKilled(t *testing.T) {
	paths := os.Getenv("OPENMIGRATE_TEST_PIECES")
	if paths == "" {
		return
	}
	zero, one, _ := strings.Cut(paths, ":")
	_, v := scattered(t)
	list := []Disk{{Path: zero}, {Path: one}}
	err := Private(t.Context(), func(s *Space) error {
		if err := s.Mount(list, v, "", nil, false); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.Dir(), "first"), []byte("one"), 0o600); err != nil {
			return err
		}
		unix.Sync()
		_, _ = os.Stdout.WriteString("!")
		for {
			if err := os.WriteFile(filepath.Join(s.Dir(), "second"), make([]byte, 1<<20), 0o600); err != nil {
				return err
			}
		}
	})
	t.Fatal(err)
}
