package ebpf_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/agent/track/tracktest"
)

const size = 16 << 20

// write4K writes a block past the page cache.
func write4K(t testing.TB, path string, off int64) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	writeBlock(t, fd, off)
}

// writeBlock writes a block to an open device.
func writeBlock(t testing.TB, fd int, off int64) {
	t.Helper()
	buf, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(buf) }()
	buf[0] = byte(off >> 12)
	if _, err := unix.Pwrite(fd, buf, off); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	d, opts := loop(t, size), instance(t)
	tracktest.Run(t, tracktest.Subject{
		Open:  func() track.Tracker { return openTracker(t, opts) },
		Disk:  d,
		Write: func(off int64) { write4K(t, d.Path, off) },
		Marks: true,
	})
}

// settled returns a tracker whose marks count from "base".
func settled(t *testing.T, opts ebpf.Options, d track.Disk) track.Tracker {
	t.Helper()
	tr := openTracker(t, opts)
	c := begin(t, tr, d)
	if err := errors.Join(c.Intend("base"), c.Settle()); err != nil {
		t.Fatal(err)
	}
	return tr
}

func begin(t *testing.T, tr track.Tracker, d track.Disk) track.Cycle {
	t.Helper()
	if err := tr.Watch(t.Context(), []track.Disk{d}); err != nil {
		t.Fatal(err)
	}
	c, err := tr.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPins damages what an agent left, and looks that the next one scans, says why, and tracks again.
func TestPins(t *testing.T) {
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	for name, c := range map[string]struct {
		damage func(dir string) error
		why    string
	}{
		"nothing": {func(string) error { return nil }, ""},
		"link":    {remove("link_rq_issue"), "link of program rq_issue is gone"},
		"program": {remove("program_rq_issue"), "program rq_issue is gone"},
		"map":     {remove("devices"), "map devices is gone"},
		"state":   {remove("meta"), "state of tracking is gone"},
		"foreign map": {func(dir string) error {
			return errors.Join(os.Remove(dir+"/bios"), os.Link(dir+"/devices", dir+"/bios"))
		}, "map bios is another one"},
		"foreign owner": {func(dir string) error { return ebpf.EditMeta(dir, func(i, _ *string, _ *int) { *i = "other" }) }, `belongs to "other"`},
		"boot":          {func(dir string) error { return ebpf.EditMeta(dir, func(_, b *string, _ *int) { *b = "other" }) }, "restarted"},
		"version":       {func(dir string) error { return ebpf.EditMeta(dir, func(_, _ *string, v *int) { *v = 99 }) }, "format 99"},
	} {
		t.Run(name, func(t *testing.T) {
			d, opts := loop(t, size), instance(t)
			if err := settled(t, opts, d).Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(opts.Dir()); err != nil {
				t.Fatal(err)
			}
			// One that dies before it watches anything takes no reason with it.
			if err := openTracker(t, opts).Close(); err != nil {
				t.Fatal(err)
			}
			tr := openTracker(t, opts)
			defer func() { _ = tr.Close() }()
			cy := begin(t, tr, d)
			marks, why := cy.Changed(d.ID, "base")
			if (marks != nil) != (c.why == "") || !strings.Contains(why, c.why) {
				t.Fatalf("marks %v, reason %q", marks != nil, why)
			}
			if err := errors.Join(cy.Intend("again"), cy.Settle()); err != nil {
				t.Fatal(err)
			}
			write4K(t, d.Path, 8192)
			cy = begin(t, tr, d)
			if marks, why := cy.Changed(d.ID, "again"); marks == nil || !marked(marks, 2) {
				t.Fatalf("the write after is not marked: %s", why)
			}
		})
	}
}

// TestLost takes a disk out of sight while a cycle runs: its flip must fail, and the next cycle scans.
func TestLost(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(t *testing.T, tr track.Tracker, d track.Disk)
		why  string
	}{
		"link": {func(t *testing.T, tr track.Tracker, _ track.Disk) {
			if err := ebpf.CloseLink(tr, "bio_queue"); err != nil {
				t.Fatal(err)
			}
		}, "link of program bio_queue"},
		"recursion": {func(_ *testing.T, tr track.Tracker, _ track.Disk) { ebpf.Miss(tr, "rq_issue") }, "skipped"},
		"command":   {func(_ *testing.T, tr track.Tracker, d track.Disk) { ebpf.Lose(tr, d.ID) }, "commands that may write"},
		"size": {func(t *testing.T, _ track.Tracker, d track.Disk) {
			if err := os.Truncate(run(t, "losetup", "-nO", "BACK-FILE", d.Path), 2*size); err != nil {
				t.Fatal(err)
			}
			run(t, "losetup", "-c", d.Path)
		}, "size changed"},
		"recursion of one copy": {func(_ *testing.T, tr track.Tracker, _ track.Disk) { ebpf.Miss(tr, "rq_complete") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, opts := loop(t, size), instance(t)
			tr := settled(t, opts, d)
			defer func() { _ = tr.Close() }()
			cy := begin(t, tr, d)
			c.lose(t, tr, d)
			_, err := cy.Flip(t.Context())
			if c.why == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, track.ErrLost) || !strings.Contains(err.Error(), c.why) {
				t.Fatalf("flip: %v", err)
			}
			if err := cy.Intend("wrong"); !errors.Is(err, track.ErrLost) {
				t.Errorf("intend after a loss: %v", err)
			}
			if cy, err = tr.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if marks, why := cy.Changed(d.ID, "base"); marks != nil || why == "" {
				t.Errorf("marks %v, reason %q", marks != nil, why)
			}
		})
	}
}

// TestFlipFails: what an epoch marked is not lost with a flip that fails after it ended the epoch.
func TestFlipFails(t *testing.T) {
	d, opts := loop(t, size), instance(t)
	tr := settled(t, opts, d)
	defer func() { _ = tr.Close() }()
	c := begin(t, tr, d)
	write4K(t, d.Path, 5<<20)
	restore, err := ebpf.FailSave(tr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Flip(t.Context()); err == nil {
		t.Fatal("a flip succeeds that could not keep what it found")
	}
	restore()
	c.Close()
	m, why := begin(t, tr, d).Changed(d.ID, "base")
	if m == nil {
		t.Fatalf("scan: %s", why)
	}
	if off, _, err := m.Next(0); err != nil || off != 5<<20 {
		t.Errorf("the first mark is at %d, %v", off, err)
	}
}

// TestBroken: a tracker that cannot end an epoch says that it is broken whatever it is asked, and one that is opened anew scans once.
func TestBroken(t *testing.T) {
	d, opts := loop(t, size), instance(t)
	tr := settled(t, opts, d)
	c := begin(t, tr, d)
	if err := ebpf.BreakFlips(tr); err != nil {
		t.Fatal(err)
	}
	write4K(t, d.Path, 4096)
	if _, err := c.Flip(t.Context()); !errors.Is(err, track.ErrBroken) {
		t.Errorf("flip: %v", err)
	}
	if _, err := c.Flip(t.Context()); !errors.Is(err, track.ErrBroken) {
		t.Errorf("flip again: %v", err)
	}
	if err := tr.Watch(t.Context(), []track.Disk{d}); !errors.Is(err, track.ErrBroken) {
		t.Errorf("watch: %v", err)
	}
	if _, err := tr.Start(t.Context()); !errors.Is(err, track.ErrBroken) {
		t.Errorf("start: %v", err)
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	opts.Anew = "the one before was broken"
	tr = openTracker(t, opts)
	defer func() { _ = tr.Close() }()
	c = begin(t, tr, d)
	if m, why := c.Changed(d.ID, "base"); m != nil || why != opts.Anew {
		t.Fatalf("marks %v, reason %q", m != nil, why)
	}
	if err := errors.Join(c.Intend("again"), c.Settle()); err != nil {
		t.Fatal(err)
	}
	write4K(t, d.Path, 8192)
	if m, why := begin(t, tr, d).Changed(d.ID, "again"); m == nil || !marked(m, 2) {
		t.Errorf("the write after is not marked: %s", why)
	}
}

// TestDiscard: gigabytes in one request are marked whole.
func TestDiscard(t *testing.T) {
	d, opts := loop(t, 6<<30), instance(t)
	tr := settled(t, opts, d)
	defer func() { _ = tr.Close() }()
	cy := begin(t, tr, d)
	run(t, "blkdiscard", "-o", "12288", "-l", "5368709120", d.Path)
	marks, err := cy.Flip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start, end, err := marks[d.ID].Next(0)
	if err != nil || start != 12288 || end != 12288+5<<30 {
		t.Errorf("marked %d to %d, %v", start, end, err)
	}
}
