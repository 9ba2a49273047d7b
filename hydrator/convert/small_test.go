package convert

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/convert/converttest"
	"github.com/openmigrate/openmigrate/hydrator/convert/disks"
	"github.com/openmigrate/openmigrate/hydrator/convert/tree"
)

// Other file systems, and a root and /var in subvolumes of one.
func TestFileSystems(t *testing.T) {
	for name, test := range map[string]struct {
		size, mkfs string
		subvolumes []string
		fstab      string
	}{
		"xfs":   {"320M", "mkfs.xfs -q -f", nil, "/dev/sda / xfs defaults 0 0\n"},
		"btrfs": {"160M", "mkfs.btrfs -q -f", []string{"@", "@var"}, "/dev/sda / btrfs subvol=@ 0 0\n/dev/sda /var btrfs defaults,subvol=@var 0 0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			m := converttest.New(t)
			m.Files["etc/fstab"], m.Files["var/empty"] = test.fstab, ""
			path := m.Whole(test.size, test.mkfs, test.subvolumes...)
			mustConvert(t, path)
			got := contents(t, path)
			if want := m.Files["prepared"]; got["boot/initrd.img-6.1-test"] != want || strings.Contains(got["etc/fstab"], "/dev/sda") ||
				got["var/lib/openmigrate/backup/etc/fstab"] != test.fstab {
				t.Errorf("fstab %q, its backup %q", got["etc/fstab"], got["var/lib/openmigrate/backup/etc/fstab"])
			}
			if again := mustConvert(t, path); len(again.Changes) != 0 {
				t.Errorf("a second conversion changed %+v", again.Changes)
			}
		})
	}
}

// contents are all files of a disk's root.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	err = disks.Private(t.Context(), func(space *disks.Space) error {
		return s.withRoot(space, true, func(*tree.Tree) error {
			return filepath.WalkDir(space.Dir(), func(name string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				b, err := os.ReadFile(name)
				all[strings.TrimPrefix(name, space.Dir()+"/")] = string(b)
				return err
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func mustConvert(t *testing.T, path string) *Report {
	t.Helper()
	s, err := Detect(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	// A launch stores it between its steps.
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	stored := &System{}
	if err := json.Unmarshal(b, stored); err != nil {
		t.Fatal(err)
	}
	r, err := Convert(t.Context(), stored, Target{Platform: KVM}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// clean fails if the disk is mounted or attached, or its file system is damaged.
func clean(t *testing.T, path string) {
	t.Helper()
	deadline, pause := time.Now().Add(time.Minute), time.NewTicker(10*time.Millisecond)
	defer pause.Stop()
	for {
		out, err := exec.Command("losetup", "--noheadings", "--output", "NAME", "--associated", path).CombinedOutput()
		if err != nil {
			t.Fatalf("losetup: %v\n%s", err, out)
		}
		if len(out) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("attached: %s", out)
		}
		<-pause.C
	}
	// -p replays a journal and repairs what is harmless; 4 and above is damage.
	out, err := exec.Command("e2fsck", "-p", path+"?offset=1048576").CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() >= 4) {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
}
