package launch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/wire"
)

// seesWhatIsLeft makes sure that nothingLeft would see it.
func (w *world) seesWhatIsLeft() {
	t := w.t
	t.Helper()
	// Nobody's child, in a session of its own, as QEMU is.
	if err := exec.CommandContext(t.Context(), "setsid", "sh", "-c", "sleep 300 >/dev/null 2>&1 &").Run(); err != nil {
		t.Fatal(err)
	}
	w.Eventually(time.Minute, "it runs", func() error {
		if names := w.programs(); !slices.Contains(names, "sleep 300") {
			return fmt.Errorf("%q run", names)
		}
		return nil
	})
	image := w.Path("left.img")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 1<<20), os.WriteFile(filepath.Join(w.dir("volumes"), "left"), nil, 0o600),
		os.WriteFile(w.Path("hydrator/run/left.nbd"), nil, 0o600), os.Mkdir(w.Path("left"), 0o700), unix.Mount("left", w.Path("left"), "tmpfs", 0, "size=64k")); err != nil {
		t.Fatal(err)
	}
	loop, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"file": w.leftFiles(), "process": w.leftProcesses(), "mount": w.leftMounts(), "loop device": w.leftLoops(), "socket": w.leftRun()} {
		if err == nil {
			t.Errorf("a %s that is left is not seen", what)
		}
	}
	for _, p := range descendants(t) {
		if p.program == "sleep 300" {
			err = errors.Join(err, unix.Kill(p.pid, unix.SIGKILL))
		}
	}
	err = errors.Join(err, exec.CommandContext(t.Context(), "losetup", "--detach", strings.TrimSpace(string(loop))).Run(), unix.Unmount(w.Path("left"), 0),
		os.Remove(filepath.Join(w.dir("volumes"), "left")), os.Remove(w.Path("hydrator/run/left.nbd")))
	if err != nil {
		t.Error(err)
	}
	w.nothingLeft()
}

// nothingLeft makes sure that of the launches that are over nothing is left but what tells of them.
func (w *world) nothingLeft() {
	w.t.Helper()
	w.Eventually(time.Minute, "nothing is left", func() error {
		return errors.Join(w.leftOrphans(), w.leftFiles(), w.leftProcesses(), w.leftMounts(), w.leftLoops(), w.leftRun())
	})
}

func (w *world) leftOrphans() error {
	w.t.Helper()
	list := ask(w, "list orphans", func(ctx context.Context, c *apiclient.Client) ([]wire.Orphan, error) { return c.Orphans(ctx, provider) })
	if len(list) > 0 {
		return fmt.Errorf("orphans %+v", list)
	}
	return nil
}

// leftFiles are the provider's, but for the records of what was removed.
func (w *world) leftFiles() (err error) {
	for _, dir := range []string{"volumes", "snapshots", "instances"} {
		walk := filepath.WalkDir(w.dir(dir), func(path string, d fs.DirEntry, werr error) error {
			if werr == nil && !d.IsDir() && d.Name() != "record.json" {
				err = errors.Join(err, fmt.Errorf("file %s", path))
			}
			return nil // what goes meanwhile is not left
		})
		err = errors.Join(err, walk)
	}
	return err
}

// process is one that descends from this one.
type process struct {
	pid     int
	program string // base name, and its first argument
}

// descendants are all processes that this one, or whoever it started, started.
func descendants(t *testing.T) []process {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	parent := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // behind the name, which can hold anything
		if err != nil || len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
			continue // it ended; that nobody asked how is ours to mend
		}
		if parent[pid], err = strconv.Atoi(fields[1]); err != nil {
			t.Fatal(err)
		}
	}
	var all []process
	for pid := range parent {
		for up := pid; up != 0; up = parent[up] {
			if up != os.Getpid() || pid == up {
				continue
			}
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err != nil || len(b) == 0 {
				continue
			}
			words := strings.Split(string(b), "\x00")
			name := filepath.Base(words[0])
			if len(words) > 1 && words[1] != "" && !strings.HasPrefix(words[1], "-") {
				name += " " + words[1]
			}
			all = append(all, process{pid, name})
		}
	}
	return all
}

// programs are the names of what runs.
func (w *world) programs() (names []string) {
	w.t.Helper()
	for _, p := range descendants(w.t) {
		names = append(names, p.program)
	}
	slices.Sort(names)
	return names
}

func (w *world) leftProcesses() error {
	w.t.Helper()
	if now := w.programs(); !slices.Equal(now, w.alone) {
		return fmt.Errorf("processes %q, where %q ran before", now, w.alone)
	}
	return nil
}

func (w *world) leftMounts() error {
	b, err := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, w.Dir) || strings.Contains(line, w.viewName()) {
			err = errors.Join(err, fmt.Errorf("mount %q", line))
		}
	}
	return err
}

// viewName begins the names of what the hydrator shows to the process that converts.
func (w *world) viewName() string {
	sum := sha256.Sum256([]byte(w.Path("hydrator/run")))
	return "openmigrate-" + hex.EncodeToString(sum[:6])
}

func (w *world) leftLoops() (err error) {
	loops, globErr := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, name := range loops {
		b, rerr := os.ReadFile(name)
		if file := strings.TrimSpace(string(b)); rerr == nil && (strings.HasPrefix(file, w.Dir) || strings.HasPrefix(file, "/"+w.viewName())) {
			err = errors.Join(err, fmt.Errorf("%s is attached to %s", name, file))
		}
	}
	return errors.Join(err, globErr)
}

// leftRun is what goes with a job of the hydrator's: sockets, and folders for mount points.
func (w *world) leftRun() (err error) {
	for _, dir := range []string{w.Path("hydrator/run"), filepath.Join(os.TempDir(), w.viewName())} {
		entries, rerr := os.ReadDir(dir)
		if rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		for _, e := range entries {
			err = errors.Join(err, fmt.Errorf("%s of a job", filepath.Join(dir, e.Name())))
		}
	}
	return err
}
