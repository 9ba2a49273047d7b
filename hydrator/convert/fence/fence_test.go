package fence

import (
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

// system is a folder with busybox or this machine's own programs, on a mount of its own as fence wants it.
func system(t *testing.T) string {
	t.Helper()
	roottest.Need(t, "name spaces and mounts")
	dir := t.TempDir()
	if err := unix.Mount("system", dir, "tmpfs", unix.MS_NOSUID, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	// The machine's own programs and libraries, read-only.
	for _, name := range []string{"/usr", "/bin", "/lib", "/lib64", "/sbin"} {
		info, err := os.Lstat(name)
		if err != nil {
			continue
		}
		to := filepath.Join(dir, name)
		if info.Mode()&os.ModeSymlink != 0 {
			link, err := os.Readlink(name)
			if err == nil {
				err = os.Symlink(link, to)
			}
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.Mkdir(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(name, to, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"tmp", "var/tmp", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o1777); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func shell(t *testing.T, dir, script string) (string, error) {
	t.Helper()
	return Run(t.Context(), Command{Root: dir, Args: []string{"/bin/sh", "-c", script}, Timeout: time.Minute})
}

func TestWhatIsSeen(t *testing.T) {
	dir := system(t)
	if err := os.WriteFile(dir+"/etc/name", []byte("inside"), 0o600); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{
		"cat /etc/name":                "inside",
		"ls /dev | tr '\\n' ' '":       "fd full null random shm stderr stdin stdout tty urandom zero ",
		"ls /sys | wc -l":              "0",
		"echo /proc/[0-9]* | wc -w":    "",
		"hostname":                     "localhost",
		"ls /sys/class/net /etc/fstab": "",
		"id -u":                        "0",
		"cat /proc/self/fd/0 </dev/zero | head -c0; echo ok": "ok",
	} {
		out, err := shell(t, dir, script)
		if want != "" && (err != nil || strings.TrimSpace(out) != strings.TrimSpace(want)) {
			t.Errorf("%s: %q, %v; want %q", script, out, err, want)
		}
	}
	if out, err := shell(t, dir, "cat /proc/net/dev | tail -n +3 | grep -vc lo: ; true"); err != nil || strings.TrimSpace(out) != "0" {
		t.Errorf("network devices: %q, %v", out, err)
	}
}

// Each of these would reach something that is not the system's.
func TestWhatIsDenied(t *testing.T) {
	dir := system(t)
	for _, script := range []string{
		"mknod /tmp/disk b 7 0",
		"mount -t tmpfs none /tmp",
		"mount -o remount,rw /proc",
		"echo '|/tmp/x' >/proc/sys/kernel/core_pattern",
		"echo b >/proc/sysrq-trigger",
		"chroot / true",
		"umount /proc",
		"kill -0 2>/dev/null $PPID && kill -9 1 && sleep 0.2 && ! true",
		"nsenter -t 1 -m true",
		"date -s 2001-01-01",
		"dd if=/dev/mem of=/dev/null count=1",
		"ip link add x type dummy",
	} {
		if out, err := shell(t, dir, script); err == nil {
			t.Errorf("%s: allowed; it printed %q", script, out)
		}
	}
	if out, err := shell(t, dir, "grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status"); err != nil || !strings.Contains(out, "NoNewPrivs:\t1") || !strings.Contains(out, "00000000800000fb") {
		t.Errorf("capabilities: %s %v", out, err)
	}
}

func TestLimits(t *testing.T) {
	dir := system(t)
	if out, err := shell(t, dir, "echo no; exit 7"); !exitStatus(err, 7) || !strings.Contains(err.Error(), "no") {
		t.Errorf("a failure: %q, %v", out, err)
	}
	if _, err := Run(t.Context(), Command{Root: dir, Args: []string{"/missing"}}); !exitStatus(err, statusSetup) {
		t.Errorf("no such program: %v", err)
	}
	out, err := Run(t.Context(), Command{Root: dir, Args: []string{"/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end"}, Output: 1000})
	if err != nil || len(out) != 1000 || !strings.HasSuffix(out, "xend\n") {
		t.Errorf("%d bytes of output, %v", len(out), err)
	}
	// What was left behind holds the output open and must die all the same.
	began := time.Now()
	_, err = Run(t.Context(), Command{Root: dir, Args: []string{"/bin/sh", "-c", "setsid sleep 4242 & exec sleep 4243"}, Timeout: 500 * time.Millisecond})
	if !errors.Is(err, ErrTimeout) || time.Since(began) > 20*time.Second {
		t.Errorf("a program without an end: %v after %v", err, time.Since(began))
	}
	if _, err := shell(t, dir, "setsid sleep 4242 >/dev/null 2>&1 & exit 0"); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Command{Root: dir, Args: []string{"/bin/sh"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if out, err := exec.Command("pgrep", "-f", "^sleep 424[23]").CombinedOutput(); err == nil {
		t.Errorf("still running: %s", out)
	}
}

func exitStatus(err error, want int) bool {
	var exit *ExitError
	return errors.As(err, &exit) && exit.Status == want
}

func TestShared(t *testing.T) {
	dir := system(t)
	_, err := Run(t.Context(), Command{Root: dir, Args: []string{"/bin/sh", "-c", "echo x >/var/tmp/file"}, Shared: [2]string{"/tmp", "/var/tmp"}})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir + "/tmp/file"); err != nil || string(b) != "x\n" {
		t.Errorf("%q, %v", b, err)
	}
}
