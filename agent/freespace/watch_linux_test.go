package freespace

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// watcher notes what is written to a disk, by the kernel's trace events: it stands for the tracker that runs in production.
type watcher struct {
	t   *testing.T
	dir string // of the trace instance
}

// watch begins to note the writes to a whole disk.
func watch(t *testing.T, device string) *watcher {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := unix.Mount("tracefs", root, "tracefs", 0, ""); err != nil {
		t.Fatalf("mount tracefs: %v", err)
	}
	w := &watcher{t, filepath.Join(root, "instances", fmt.Sprintf("freespace-%d-%s", os.Getpid(), filepath.Base(root)+filepath.Base(device)))}
	t.Cleanup(func() {
		if err := errors.Join(os.Remove(w.dir), unix.Unmount(root, 0)); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.set("buffer_size_kb", "32768")
	const event = "events/block/block_bio_queue/"
	w.set(event+"filter", fmt.Sprintf("dev == %d", unix.Major(st.Rdev)<<20|unix.Minor(st.Rdev)))
	w.set(event+"enable", "1")
	return w
}

func (w *watcher) set(name, value string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(value), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

var bioQueue = regexp.MustCompile(`block_bio_queue: \d+,\d+ (\w+) (\d+) \+ (\d+) `)

// written are the blocks of Grain bytes that were written or discarded since watch.
func (w *watcher) written() map[int64]bool {
	w.t.Helper()
	cpus, err := filepath.Glob(filepath.Join(w.dir, "per_cpu/cpu*/stats"))
	if err != nil || len(cpus) == 0 {
		w.t.Fatalf("no statistics of the trace: %v", err)
	}
	for _, name := range cpus {
		stats, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(stats), "\noverrun: 0\n") {
			w.t.Fatalf("events were lost: %v\n%s", err, stats)
		}
	}
	f, err := os.Open(filepath.Join(w.dir, "trace"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	blocks := map[int64]bool{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		m := bioQueue.FindStringSubmatch(s.Text())
		if m == nil || strings.HasPrefix(m[1], "R") {
			continue
		}
		first, err1 := strconv.ParseInt(m[2], 10, 64)
		count, err2 := strconv.ParseInt(m[3], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			w.t.Fatal(err)
		}
		for at := first * sysfsSector &^ (Grain - 1); at < (first+count)*sysfsSector; at += Grain {
			blocks[at] = true
		}
	}
	if err := s.Err(); err != nil {
		w.t.Fatal(err)
	}
	return blocks
}
