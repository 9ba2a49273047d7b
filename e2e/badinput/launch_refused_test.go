package badinput

import (
	"compress/gzip"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/e2e/lab"
	"github.com/openmigrate/openmigrate/hydrator/convert/converttest"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// diskSize is that of every disk here, in bytes: more than the largest takes.
const diskSize = 80 << 20

// TestRefusedLaunches: what cannot be brought up ends before anything is made for it, and the reason says what to do.
func TestRefusedLaunches(t *testing.T) {
	roottest.Need(t, "mounting disks")
	// The provider has no room: less is free than it leaves free at all times.
	place := t.TempDir()
	if err := unix.Mount("place", place, "tmpfs", 0, "size=900m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(place, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l := lab.NewWith(t, lab.Options{Args: []string{"--provider", "qemu=" + place + ",accel=tcg"}})
	disk := l.Path("disk.img")
	writeDisk(t, disk, []byte("nothing yet"))
	l.StartHydrator(l.Token("node"), "--provider", "qemu="+filepath.Join(place, "volumes"))
	l.StartAgent(l.Token("agent"), disk)
	waitForMachine(t, l)
	if _, err := l.CLI("machines", "set", "web1", "--interval", "-1s"); err != nil {
		t.Fatal(err)
	}
	launch := []string{"launch", "test", "web1", "--wait", "--firmware", "bios", "--type", "c1-m64"}
	nothingMade := func(t *testing.T) {
		t.Helper()
		for _, kind := range []string{"volumes", "snapshots", "instances"} {
			if made, err := os.ReadDir(filepath.Join(place, kind)); err != nil || len(made) != 0 {
				t.Errorf("%s %v, %v", kind, made, err)
			}
		}
		var orphans []any
		if l.JSON(&orphans, "providers", "orphans", "qemu"); len(orphans) != 0 {
			t.Errorf("orphans %v", orphans)
		}
	}

	good := func(change func(files map[string]string)) []byte {
		m := converttest.New(t)
		if change != nil {
			change(m.Files)
		}
		b, err := os.ReadFile(m.Disk())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	whole := good(nil)
	unbootable := append([]byte{}, whole...)
	clear(unbootable[:440])
	strange := make([]byte, diskSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(strange) // never fails
	arm := good(func(files map[string]string) {
		files["sbin/init"] = "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\xb7\x00"
	})
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"no bootable disk":       {unbootable, "no disk can start a machine: .*is the boot disk"},
		"an unknown file system": {strange, "has no file system that is known here"},
		"an encrypted root":      {luks(t), "decrypt the root on the source"},
		"another architecture":   {arm, "arm64 processors.*run the conversion on a hydrator of that kind"},
		"no system":              {good(func(files map[string]string) { delete(files, "etc/os-release") }), "no root file system was found"},
		"no room":                {whole, "left for volumes.*remove launches"},
	} {
		t.Run(name, func(t *testing.T) {
			writeDisk(t, disk, c.data)
			l.JSON(&struct{}{}, "machines", "sync", "web1", "--wait")
			expect(t, l, 1, c.want, launch...)
			var launches []struct{ Failure struct{ Step string } }
			if l.JSON(&launches, "launch", "ls"); len(launches) == 0 || launches[0].Failure.Step != "pending" {
				t.Errorf("launches %+v", launches)
			}
			nothingMade(t)
		})
	}
	for name, c := range map[string]struct {
		want string
		args []string
	}{
		"too little memory": {"memory left.*stop another, or choose a smaller type", []string{"--type", "c1-m4194304"}},
		"a missing network": {"no network.*it has isolated, nat", []string{"--network", "dmz"}},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after []any
			l.JSON(&before, "launch", "ls")
			expect(t, l, 5, c.want, append(append([]string{}, launch...), c.args...)...)
			if l.JSON(&after, "launch", "ls"); len(after) != len(before) {
				t.Error("a launch that was refused at once is listed")
			}
			nothingMade(t)
		})
	}
}

// TestNoQEMU: a host without the program says so before anything is made.
func TestNoQEMU(t *testing.T) {
	l := lab.NewWith(t, lab.Options{Args: []string{"--provider", "qemu,accel=tcg"}, Env: []string{"PATH=/nowhere"}})
	disk := l.Path("disk.img")
	writeDisk(t, disk, []byte("a disk"))
	l.StartAgent(l.Token("agent"), disk)
	waitForMachine(t, l)
	l.JSON(&struct{}{}, "machines", "sync", "web1", "--wait")
	expect(t, l, 5, "qemu-system-x86_64 is missing; install the package qemu-system-x86", "launch", "test", "web1", "--firmware", "bios", "--type", "c1-m64")
	var places []struct{ Error string }
	if l.JSON(&places, "providers", "ls"); len(places) != 1 || !strings.Contains(places[0].Error, "install the package") {
		t.Errorf("%+v", places)
	}
	if made, err := os.ReadDir(l.Path("master/providers/qemu/volumes")); err != nil || len(made) != 0 {
		t.Errorf("volumes %v, %v", made, err)
	}
}

func writeDisk(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, diskSize); err != nil {
		t.Fatal(err)
	}
}

// luks is the beginning of an encrypted disk.
func luks(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(lab.Root(), "internal/partition/fsprobe/testdata/luks2.head.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
