package boltstore

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/master/store/storetest"
)

func open(dir string) (store.Store, error) {
	return Open(filepath.Join(dir, "master.db"), nil)
}

func closeStore(t *testing.T, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestMain(m *testing.M) { storetest.Main(m, open) }

func TestStore(t *testing.T) { storetest.Run(t, open) }

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.db")
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, &Options{LockWait: 10 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "another master uses "+path) {
		t.Errorf("a second Open returned %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(path, nil)
	if err != nil {
		t.Fatalf("open after close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestMode(t *testing.T) {
	dir := t.TempDir()
	s, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	info, err := os.Stat(filepath.Join(dir, "master.db"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, want 0600", info.Mode().Perm())
	}
}

func TestNotADatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), "rebuild") {
		t.Errorf("Open returned %v, want what to do next", err)
	}
}

func TestQuota(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "master.db"), &Options{MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	fill(t, s)
}

const fullEnv = "OPENMIGRATE_BOLTSTORE_FULL"

// TestFull lets the file grow no further than a limit of the process, which fails the same system calls as a full disk does.
// It runs in a process of its own, because such a limit holds for everything in a process.
func TestFull(t *testing.T) {
	if os.Getenv(fullEnv) == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestFull$")
		cmd.Env = append(os.Environ(), fullEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	s, err := Open(filepath.Join(t.TempDir(), "master.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	rows := fill(t, s)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(w store.Writer) error {
		return w.Put("t", []byte{byte(rows)}, make([]byte, 2<<20))
	}); err != nil {
		t.Errorf("update after room was made: %v", err)
	}
}

// fill writes until the database is full, and checks that what was acknowledged is there. It returns the number of rows.
func fill(t *testing.T, s *Store) int {
	t.Helper()
	rows := 0
	for ; ; rows++ {
		err := s.Update(t.Context(), func(w store.Writer) error {
			return w.Put("t", []byte{byte(rows)}, make([]byte, 64<<10))
		})
		if errors.Is(err, store.ErrFull) {
			break
		}
		if err != nil {
			t.Fatalf("row %d: %v, want ErrFull in the end", rows, err)
		}
		if rows > 200 {
			t.Fatal("never full")
		}
	}
	if rows == 0 {
		t.Fatal("full from the start")
	}
	n := 0
	if err := s.View(t.Context(), func(r store.Reader) error {
		return r.Scan("t", nil, nil, func(k, v []byte) error {
			if int(k[0]) != n || len(v) != 64<<10 {
				t.Errorf("key %x with %d bytes at place %d", k, len(v), n)
			}
			n++
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if n != rows {
		t.Errorf("%d rows after %d were acknowledged", n, rows)
	}
	return rows
}
