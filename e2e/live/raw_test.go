package live

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rawWriter writes blocks to a device past every file system and cache, as a virtual machine or a database on a device of its own does.
type rawWriter struct {
	fd     int
	buf    []byte
	blocks int64
	stop   atomic.Bool
	wg     sync.WaitGroup
	err    error
}

func openRaw(t *testing.T, dev string) *rawWriter {
	t.Helper()
	fd, err := unix.Open(dev, unix.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	buf, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	w := &rawWriter{fd: fd, buf: buf}
	t.Cleanup(func() {
		if err := errors.Join(w.end(), unix.Munmap(buf), unix.Close(fd)); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *rawWriter) write() error {
	w.blocks++
	w.buf[0]++
	_, err := unix.Pwrite(w.fd, w.buf, w.blocks%1000*4096)
	return err
}

// start writes without end.
func (w *rawWriter) start() {
	w.wg.Go(func() {
		for w.err == nil && !w.stop.Load() {
			w.err = w.write()
			time.Sleep(time.Millisecond)
		}
	})
}

func (w *rawWriter) end() error {
	w.stop.Store(true)
	w.wg.Wait()
	return w.err
}

// TestRawWriter: beside a partition with a file system somebody writes to another one without. What cannot be frozen makes no restpoint of one instant
// while it writes, and no more than a crash-consistent one when it does not.
func TestRawWriter(t *testing.T) {
	s := newDisk(t)
	table := exec.CommandContext(t.Context(), "sfdisk", "-q", s.dev)
	table.Stdin = strings.NewReader("label: gpt\nstart=1MiB, size=500MiB\nstart=501MiB, size=500MiB\n")
	if out, err := table.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run(t, "partx", "-a", s.dev)
	t.Cleanup(func() { _ = exec.Command("partx", "-d", s.dev).Run() })
	s.mount("ext4", s.dev+"p1")
	s.protect()
	w := openRaw(t, s.dev+"p2")
	check := func(what, want string, reasons ...string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(s.dir, "file"), []byte(what), 0o600); err != nil {
			t.Fatal(err)
		}
		s.l.JSON(&struct{}{}, "machines", "sync", "web1", "--wait")
		var list []restpoint
		s.l.JSON(&list, "restpoints", "ls", "web1")
		show, err := s.l.CLI("machines", "show", "web1")
		if err != nil {
			t.Fatal(err)
		}
		if got := list[0].Consistency; got != want {
			t.Errorf("%s: %s, want %s\n%s", what, got, want, show)
		}
		for _, reason := range reasons {
			if !strings.Contains(string(show), reason) {
				t.Errorf("%s: nothing says %q\n%s", what, reason, show)
			}
		}
	}
	part := filepath.Base(s.dev) + "p2"
	check("nobody writes", "filesystem")
	w.start()
	check("it writes all the time", "fuzzy", part, "cannot be frozen")
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	check("it has written", "crash", part)
	check("nobody wrote", "filesystem")
	if err := w.write(); err != nil {
		t.Fatal(err)
	}
	check("it wrote once before", "crash", part)
}
