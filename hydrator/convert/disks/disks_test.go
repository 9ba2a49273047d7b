package disks

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/roottest"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// image is a disk with a GPT: 40 MiB of ext4 from 1 MiB on, and 20 MiB of ext2 after it.
func image(t *testing.T) string {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", `printf 'label: gpt\nstart=1MiB, size=40MiB\nstart=41MiB, size=20MiB\n' | sfdisk -q "$1"`, "sh", path)
	run(t, "mkfs.ext4", "-q", "-F", "-L", "one", "-E", "offset=1048576", path, "40m")
	run(t, "mkfs.ext2", "-q", "-F", "-L", "two", "-E", "offset=42991616", path, "20m")
	return path
}

// loops are the loop devices on a file.
func loops(t *testing.T, path string) string {
	t.Helper()
	return strings.TrimSpace(run(t, "losetup", "--noheadings", "--output", "NAME", "--associated", path))
}

func TestScan(t *testing.T) {
	path := image(t)
	before := run(t, "sha256sum", path)
	list, volumes, err := Scan([]string{path})
	if err != nil || len(list) != 1 || list[0].Size != 64<<20 || list[0].Scheme != "gpt" || list[0].BootCode {
		t.Fatalf("%+v, %v", list, err)
	}
	if len(volumes) != 2 || volumes[0].Label != "one" || volumes[0].Start != 1<<20 || volumes[0].Size != 40<<20 || volumes[1].Type != "ext2" || volumes[1].Partition != 2 {
		t.Errorf("%+v", volumes)
	}
	if after := run(t, "sha256sum", path); after != before {
		t.Error("looking at the disk changed it")
	}
	if _, _, err := Scan([]string{path, filepath.Join(t.TempDir(), "missing")}); !errors.Is(err, ErrNoDisk) {
		t.Errorf("a missing disk: %v", err)
	}
}

func TestMounts(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	path := image(t)
	list, volumes, err := Scan([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	before := run(t, "sha256sum", path)
	var dir string
	err = Private(t.Context(), func(s *Space) error {
		dir = s.Dir()
		if err := s.Mount(list, volumes[0], "", nil, true); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("writing to what is mounted read-only: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := run(t, "sha256sum", path); after != before {
		t.Error("mounting the disk read-only changed it")
	}
	failure := errors.New("failure")
	err = Private(t.Context(), func(s *Space) error {
		if err := s.Mount(list, volumes[0], "", nil, false); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(s.Dir(), "boot"), 0o755); err != nil {
			return err
		}
		if err := s.Mount(list, volumes[1], "boot", nil, false); err != nil {
			return err
		}
		if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(b, []byte(s.Dir())) {
			t.Errorf("others see the mounts: %v", err)
		}
		return errors.Join(failure, os.WriteFile(filepath.Join(s.Dir(), "boot/kernel"), []byte("k"), 0o600))
	})
	if !errors.Is(err, failure) {
		t.Fatal(err)
	}
	if left := loops(t, path); left != "" {
		t.Errorf("loop devices are left: %s", left)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mount point is left: %v", err)
	}
	run(t, "e2fsck", "-fn", path+"?offset=1048576")
}

// TestElsewhere: mounts are not those of the process's first thread, wherever the scheduler begins.
func TestElsewhere(t *testing.T) {
	for range 200 {
		ids := make(chan int)
		go elsewhere(func() { ids <- unix.Gettid() })
		if id := <-ids; id == os.Getpid() {
			t.Fatal("it is the first thread")
		}
	}
}

// killed is set in a process that TestKill starts: it mounts and waits for its end.
const killed = "OPENMIGRATE_TEST_MOUNT"

func TestMain(m *testing.M) {
	if path := os.Getenv(killed); path != "" {
		list, volumes, err := Scan([]string{path})
		if err == nil {
			err = Private(context.Background(), func(s *Space) error {
				if err := s.Mount(list, volumes[0], "", nil, false); err != nil {
					return err
				}
				_, _ = os.Stdout.WriteString("mounted\n")
				select {}
			})
		}
		_, _ = os.Stdout.WriteString("failed: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A killed process leaves neither mounts nor loop devices.
func TestKill(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	path := image(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), killed+"="+path, "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	if string(line[:n]) != "mounted\n" {
		t.Errorf("it said %q, %v", line[:n], err)
	}
	if loops(t, path) == "" {
		t.Error("there is no loop device to lose")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The kernel takes name spaces down in the background.
	deadline, pause := time.Now().Add(time.Minute), time.NewTicker(10*time.Millisecond)
	defer pause.Stop()
	for loops(t, path) != "" {
		if time.Now().After(deadline) {
			t.Fatalf("loop devices are left: %s", loops(t, path))
		}
		<-pause.C
	}
}
