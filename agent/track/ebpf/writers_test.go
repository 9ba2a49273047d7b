package ebpf_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var seed = maphash.MakeSeed()

func sum(b []byte) uint64 { return maphash.Bytes(seed, b) | 1 }

const (
	writersEnv = "OPENMIGRATE_TEST_WRITERS"
	archiveEnv = "OPENMIGRATE_TEST_ARCHIVE" // of writers: what "untar" extracts
)

// startWriters runs every kind of writer in dir, in another process: one that is stopped in a page fault by a frozen file system must not
// stop the collector of the process that thaws.
func startWriters(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), writersEnv+"="+dir, archiveEnv+"="+makeArchive(t))
	// The programs that the writers start hold the pipe of the errors open, so Wait waits for all of them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ended error
	done := make(chan struct{})
	go func() {
		ended = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		select {
		case <-done:
			t.Errorf("the writers ended: %v\n%s", ended, out.String())
		default:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
	})
}

// writers writes until it is killed.
func writers(dir string) error {
	fail := make(chan error)
	kinds := map[string]func(string, *rand.Rand) error{
		"buffered": buffered, "direct": direct, "mapped": mapped, "fsync": storm, "churn": churn, "trim": trim, "sqlite": sqlite, "uring": uring,
		"untar": untar,
	}
	i := uint64(0)
	for name, f := range kinds {
		i++
		r := rand.New(rand.NewPCG(uint64(os.Getpid()), i))
		go func() {
			sub := filepath.Join(dir, name)
			if err := os.Mkdir(sub, 0o700); err != nil && !os.IsExist(err) {
				fail <- err
				return
			}
			for {
				if err := f(sub, r); err != nil {
					fail <- fmt.Errorf("%s: %w", name, err)
					return
				}
			}
		}()
	}
	return <-fail
}

func fill(b []byte, r *rand.Rand) {
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
}

func buffered(dir string, r *rand.Rand) error {
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(r.IntN(4))), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1+r.IntN(20000))
	for range 50 {
		fill(b, r)
		if _, err := f.WriteAt(b, r.Int64N(8<<20)); err != nil {
			return err
		}
	}
	return nil
}

func direct(dir string, r *rand.Rand) error {
	fd, err := unix.Open(filepath.Join(dir, fmt.Sprint(r.IntN(4))), unix.O_CREAT|unix.O_RDWR|unix.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	buf, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }()
	for range 50 {
		fill(buf, r)
		if _, err := unix.Pwrite(fd, buf[:4096*(1+r.IntN(16))], 4096*r.Int64N(2000)); err != nil {
			return err
		}
	}
	return nil
}

func mapped(dir string, r *rand.Rand) error {
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(r.IntN(4))), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	// Written, not only sized: a page without a block behind it dies of SIGBUS when the file system is full.
	if st, err := f.Stat(); err == nil && st.Size() == 0 {
		if _, err := f.Write(make([]byte, 4<<20)); err != nil {
			return err
		}
	}
	b, err := unix.Mmap(int(f.Fd()), 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(b) }()
	for range 100 {
		i := r.IntN(4<<20 - 8)
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
		if r.IntN(20) == 0 {
			if err := unix.Msync(b, unix.MS_SYNC); err != nil {
				return err
			}
		}
	}
	return nil
}

func storm(dir string, r *rand.Rand) error {
	f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 4<<20 {
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	b := make([]byte, 200)
	fill(b, r)
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.Sync()
}

// churn makes and removes many small files.
func churn(dir string, r *rand.Rand) error {
	top := filepath.Join(dir, fmt.Sprint(r.IntN(3)))
	if err := os.RemoveAll(top); err != nil {
		return err
	}
	for i := range 8 {
		sub := filepath.Join(top, fmt.Sprint(i))
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return err
		}
		for j := range 15 {
			b := make([]byte, r.IntN(30000))
			fill(b, r)
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(j)), b, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeArchive writes an archive of a tree of folders, files of all sizes up to 64 KiB, and links.
func makeArchive(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tree.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 20 {
		dir := fmt.Sprintf("tree/%d/deeper/", i)
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}))
		for j := range 12 {
			b := make([]byte, r.IntN(64<<10)>>r.IntN(8))
			fill(b, r)
			err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + fmt.Sprint(j), Mode: 0o644, Size: int64(len(b))}))
			_, werr := w.Write(b)
			err = errors.Join(err, werr)
		}
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: dir + "hard", Linkname: dir + "0"}),
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: dir + "soft", Linkname: "1"}))
	}
	if err := errors.Join(err, w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return name
}

// untar extracts a tree where another may be already, which goes before.
func untar(dir string, r *rand.Rand) error {
	top := filepath.Join(dir, fmt.Sprint(r.IntN(3)))
	if err := errors.Join(os.RemoveAll(top), os.Mkdir(top, 0o700)); err != nil {
		return err
	}
	return child("tar", "--extract", "--file", os.Getenv(archiveEnv), "--directory", top)
}

func child(name string, args ...string) error {
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}

func trim(dir string, r *rand.Rand) error {
	if err := child("sleep", fmt.Sprintf("0.%d", 1+r.IntN(9))); err != nil {
		return err
	}
	// An origin of LVM snapshots has no discard.
	return child("fstrim", "--quiet-unsupported", filepath.Dir(dir))
}

func sqlite(dir string, r *rand.Rand) error {
	sql := `create table if not exists t(k integer primary key, v blob);
begin; insert or replace into t select abs(random()) % 5000, randomblob(300) from (with recursive c(i) as (values(1) union all select i+1 from c where i<200) select i from c); commit;`
	mode := []string{"delete", "wal"}[r.IntN(2)]
	return child("sqlite3", filepath.Join(dir, mode+".db"), "pragma journal_mode="+mode+";"+sql)
}
