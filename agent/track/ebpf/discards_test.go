package ebpf_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/track"
)

// discards sees what is discarded on a disk by the kernel's own trace, which has nothing to do with the tracker.
type discards struct {
	pipe *os.File
	dir  string
	size int64
	last *track.Marks // of the drain before
}

var discardEvent = regexp.MustCompile(`block_bio_queue: \S+ D\S* (\d+) \+ (\d+) `)

// traceDiscards begins to trace.
func traceDiscards(t *testing.T, d track.Disk) *discards {
	t.Helper()
	tracing := t.TempDir()
	if err := unix.Mount("tracefs", tracing, "tracefs", 0, ""); err != nil {
		t.Fatalf("mount the kernel's trace: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(tracing, 0); err != nil {
			t.Errorf("unmount the kernel's trace: %v", err)
		}
	})
	dir := filepath.Join(tracing, "instances", fmt.Sprintf("openmigrate-%d-%s", os.Getpid(), d.ID))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(d.Path, &st); err != nil {
		t.Fatal(err)
	}
	filter := fmt.Sprintf(`dev == %d && rwbs ~ "D*"`, unix.Major(st.Rdev)<<20|unix.Minor(st.Rdev))
	var err error
	for _, set := range [][2]string{{"buffer_size_kb", "8192"}, {"events/block/block_bio_queue/filter", filter}, {"events/block/block_bio_queue/enable", "1"}} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, set[0]), []byte(set[1]), 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(filepath.Join(dir, "trace_pipe"), unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &discards{pipe: os.NewFile(uintptr(fd), "trace_pipe"), dir: dir, size: d.Size}
	t.Cleanup(func() { _ = x.pipe.Close() })
	return x
}

// drain returns what was discarded since the drain before the last one: a discard may be queued in one epoch and complete in the next.
func (x *discards) drain(t *testing.T, grain int64) *track.Marks {
	t.Helper()
	now := track.NewMarks(x.size, grain)
	var text strings.Builder
	for buf := make([]byte, 64<<10); ; {
		n, err := unix.Read(int(x.pipe.Fd()), buf)
		if errors.Is(err, unix.EAGAIN) || err == nil && n == 0 {
			break
		}
		if err != nil {
			t.Fatalf("read the kernel's trace: %v", err)
		}
		text.Write(buf[:n])
	}
	for line := range strings.Lines(text.String()) {
		if strings.Contains(line, "LOST") {
			t.Fatalf("the kernel's trace is not whole: %s", line)
		}
		if f := discardEvent.FindStringSubmatch(line); f != nil {
			sector, _ := strconv.ParseInt(f[1], 10, 64) // digits
			n, _ := strconv.ParseInt(f[2], 10, 64)
			now.Add(sector*512, n*512)
		}
	}
	out := track.NewMarks(x.size, grain)
	out.Union(now)
	if x.last != nil {
		out.Union(x.last)
	}
	x.last = now
	return out
}
