package quiesce

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// partitioned attaches a disk of 64 MiB with two partitions and a gap of 2 MiB between.
func partitioned(t *testing.T) string {
	t.Helper()
	roottest.Need(t, "loop devices")
	img := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 64<<20); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sfdisk", "-q", img)
	cmd.Stdin = strings.NewReader("label: gpt\nstart=1MiB, size=29MiB\nstart=32MiB, size=16MiB\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dev := sh(t, "losetup", "-f", "--show", img)
	t.Cleanup(func() { sh(t, "losetup", "-d", dev) })
	sh(t, "partx", "-a", dev)
	t.Cleanup(func() { sh(t, "partx", "-d", dev) })
	return dev
}

// TestCovers: a file system on the first partition, nothing that is known on the second.
func TestCovers(t *testing.T) {
	dev := partitioned(t)
	name := filepath.Base(dev)
	sh(t, "mkfs.ext4", "-q", dev+"p1")
	mnt := t.TempDir()
	sh(t, "mount", dev+"p1", mnt)
	t.Cleanup(func() { sh(t, "umount", mnt) })
	mounts, not, err := Targets([]string{dev})
	if err != nil || len(not) > 0 || len(mounts) != 1 {
		t.Fatalf("%+v, %v, %v", mounts, not, err)
	}
	covers, err := Covers([]string{dev}, mounts)
	if err != nil {
		t.Fatal(err)
	}
	none, err := Covers([]string{dev}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cover     *Cover
		off, n    int64
		where     string
		sure      bool
		otherwise string
	}{
		{covers[dev], 0, 0, "", false, "nothing"},
		{covers[dev], 1 << 20, 29 << 20, "", false, "the file system"},
		{covers[dev], 40 << 20, 4096, name + "p2", true, "the second partition"},
		{covers[dev], 31 << 20, 4096, name + " outside of its partitions", false, "the gap"},
		{covers[dev], 0, 4096, name + " outside of its partitions", false, "the table"},
		{covers[dev], 63 << 20, 1 << 20, name + " outside of its partitions", false, "the end"},
		{covers[dev], 5 << 20, 35 << 20, name + "p2", true, "all of it"},
		{none[dev], 5 << 20, 4096, name + "p1", true, "what is not frozen"},
	} {
		m := track.NewMarks(64<<20, 4096)
		m.Add(c.off, c.n)
		if where, sure, _ := c.cover.Unfrozen(m); where != c.where || sure != c.sure {
			t.Errorf("%s: %q, %v", c.otherwise, where, sure)
		}
	}
	// One that can only be synced.
	cannot, err := Covers([]string{dev}, []Mount{{Point: mounts[0].Point, Synced: true}})
	if err != nil {
		t.Fatal(err)
	}
	written := track.NewMarks(64<<20, 4096)
	written.Add(5<<20, 4096)
	if where, sure, unsynced := cannot[dev].Unfrozen(written); where != "" || sure || unsynced != name+"p1" {
		t.Errorf("synced: %q, %v, %q", where, sure, unsynced)
	}
	written.Add(40<<20, 4096)
	if where, sure, unsynced := cannot[dev].Unfrozen(written); where != name+"p2" || !sure || unsynced != name+"p1" {
		t.Errorf("synced, and the second partition: %q, %v, %q", where, sure, unsynced)
	}
	// A mark of 64 KiB over an edge may be of either side.
	m := track.NewMarks(64<<20, 64<<10)
	m.Add(32<<20, 1)
	odd := &Cover{parts: []part{{"a", 0, 32<<20 + 512, frozen}, {"b", 32<<20 + 512, 64 << 20, raw}}}
	if where, sure, _ := odd.Unfrozen(m); where != "b" || sure {
		t.Errorf("an edge: %q, %v", where, sure)
	}
}

// TestUser walks holders that this machine does not have: two volumes on an array on two partitions.
func TestUser(t *testing.T) {
	sys := t.TempDir()
	for _, f := range []string{"8:1/holders/md0", "8:17/holders/md0", "9:0/holders/dm-0", "9:0/holders/dm-1", "253:0/holders", "253:1/holders"} {
		if err := os.MkdirAll(filepath.Join(sys, "dev/block", f), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for f, n := range map[string]string{"8:1/holders/md0": "9:0", "8:17/holders/md0": "9:0", "9:0/holders/dm-0": "253:0", "9:0/holders/dm-1": "253:1"} {
		if err := os.WriteFile(filepath.Join(sys, "dev/block", f, "dev"), []byte(n+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := host{sys: sys}
	for _, c := range []struct {
		held []string
		want user
	}{{nil, mixed}, {[]string{"253:0"}, mixed}, {[]string{"253:0", "253:1"}, frozen}} {
		held := map[string]user{}
		for _, d := range c.held {
			held[d] = frozen
		}
		for _, member := range []string{"8:1", "8:17"} {
			if got := h.user(member, held, 0); got != c.want {
				t.Errorf("%s with %v frozen: %d, want %d", member, c.held, got, c.want)
			}
		}
	}
	if got := h.user("253:0", nil, 0); got != raw {
		t.Errorf("a volume that nobody holds: %d", got)
	}
}
