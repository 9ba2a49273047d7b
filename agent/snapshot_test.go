package agent

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/lvm"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

func shell(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// TestSnapshotLevels: a snapshot of a device is called no more than what freezes with it.
func TestSnapshotLevels(t *testing.T) {
	roottest.Need(t, "loop devices")
	file := filepath.Join(t.TempDir(), "img")
	make := func(fs string, size int64) string {
		t.Helper()
		name := file + fs
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
		if fs != "" {
			shell(t, "mkfs."+fs, "-q", name)
		}
		return sourcetest.NewLoopDevice(t, name, sourcetest.LoopOptions{}).Path
	}
	level := func(path string, want format.Consistency, says string) {
		t.Helper()
		each, _, why, err := snapshotLevels([]string{path})
		if err != nil || len(each) != 1 || each[0] != want || (len(why) > 0) != (says != "") || !strings.Contains(strings.Join(why, ";"), says) {
			t.Errorf("%v: %q, %v; want %s that says %q", each, why, err, want, says)
		}
	}
	mount := func(dev string) string {
		t.Helper()
		dir := t.TempDir()
		shell(t, "mount", dev, dir)
		t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
		return dir
	}
	ext4 := make("ext4", 32<<20)
	level(ext4, format.Crash, "no file system is mounted")
	r := func() source.Reader {
		t.Helper()
		s, err := source.New(ext4, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	if needsRecovery(r()) {
		t.Error("a file system that was never mounted has something in its journal")
	}
	dir := mount(ext4)
	level(ext4, format.Application, "")
	if !needsRecovery(r()) {
		t.Error("one that is mounted has nothing in its journal")
	}
	shell(t, "fsfreeze", "-f", dir)
	frozen := needsRecovery(r())
	shell(t, "fsfreeze", "-u", dir)
	if frozen {
		t.Error("one that is frozen has something in its journal")
	}
	btrfs := make("btrfs", 130<<20)
	mount(btrfs)
	level(btrfs, format.Crash, "does not freeze btrfs")

	// A file system on a loop device in the file system is not frozen with the device below.
	inner := filepath.Join(dir, "inner")
	if err := os.WriteFile(inner, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(inner, 16<<20); err != nil {
		t.Fatal(err)
	}
	shell(t, "mkfs.ext4", "-q", inner)
	dev := sourcetest.NewLoopDevice(t, inner, sourcetest.LoopOptions{})
	innerDir := mount(dev.Path)
	level(ext4, format.Crash, "does not freeze ext4 on "+innerDir)
	shell(t, "umount", innerDir)
	if err := dev.Detach(); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshotWanted: snapshots are for logical volumes, and not for who asks for no more than fuzzy restpoints.
func TestSnapshotWanted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "img")
	if err := os.WriteFile(name, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := source.New(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{snaps: &snapshots{lvm: &lvm.LVM{Tag: "openmigrate.m"}}}
	for _, consistency := range []string{"", "fuzzy", "application"} {
		if a.snapshot(&wire.Assignment{Consistency: consistency}, []source.Source{s}) != nil {
			t.Error("a snapshot of an image file")
		}
	}
	if got := weaker(format.Application, format.Crash); got != format.Crash {
		t.Errorf("the weaker is %s", got)
	}
	for _, c := range []format.Consistency{format.Fuzzy, format.Crash, format.Filesystem, format.Application} {
		if weaker(c, format.Application) != c || !slices.Contains([]format.Consistency{format.Fuzzy, c}, weaker(c, format.Fuzzy)) {
			t.Errorf("%s is out of order", c)
		}
	}
}
