package faults

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

// smallDisk mounts an ext4 of that many MiB on dir. Root is needed, as for all tests of block devices.
func smallDisk(t *testing.T, dir, mib string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root to mount a small disk: run the tests as root, as CI does")
	}
	image := filepath.Join(t.TempDir(), "small.img")
	command(t, "truncate", "-s", mib+"M", image)
	command(t, "mkfs.ext4", "-q", "-F", "-m", "0", image)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { command(t, "umount", "-l", dir) })
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// TestStagingAndMasterDiskFull: the disk that holds both the store and staging runs full in the middle of a cycle. The error says so;
// what was listed stays whole; with room again, it goes on.
func TestStagingAndMasterDiskFull(t *testing.T) {
	l := lab.NewWith(t, lab.Options{Prepare: func(dir string) { smallDisk(t, filepath.Join(dir, "master"), "96") }})
	disk := l.Path("disk.img")
	small := pattern(8<<20, 5)
	if err := os.WriteFile(disk, small, 0o600); err != nil {
		t.Fatal(err)
	}
	l.StartAgent(l.Token("agent"), disk)
	l.StartHydrator(l.Token("node"))
	l.Eventually(time.Minute, "first restpoint", func() error {
		_, err := l.CLI("machines", "sync", "web1", "--wait", "--timeout", "30s")
		return err
	})
	list := restpoints(t, l)
	first := list[0].ID

	ballast := l.Path("master/ballast")
	if out, err := exec.Command("dd", "if=/dev/zero", "of="+ballast, "bs=1M").CombinedOutput(); err == nil {
		t.Fatalf("the disk does not run full: %s", out)
	}
	large := pattern(24<<20, 6)
	if err := os.WriteFile(disk, large, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.CLI("machines", "sync", "web1", "--wait", "--timeout", "8s"); err == nil {
		t.Fatal("a restpoint was made on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	l.Eventually(3*time.Minute, "a restpoint once there is room", func() error {
		_, err := l.CLI("machines", "sync", "web1", "--wait", "--timeout", "60s")
		return err
	})
	for id, want := range map[string][]byte{first: small, restpoints(t, l)[0].ID: large} {
		to := l.Path(id + ".img")
		if _, err := l.CLI("restpoints", "export", id, "--disk", "0", "--to", to); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(to); err != nil || !bytes.Equal(b, want) {
			t.Errorf("restpoint %s is not what the disk was: %d bytes, %v", id, len(b), err)
		}
	}
	if out, err := l.CLI("staging", "check", "--deep"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestTargetDiskFull: an export runs out of room, says so, and goes on from there when there is some.
func TestTargetDiskFull(t *testing.T) {
	content := pattern(24<<20, 7)
	l, _, id := start(t, content)
	dir := l.Path("target")
	smallDisk(t, dir, "32")
	ballast := filepath.Join(dir, "ballast")
	command(t, "dd", "if=/dev/zero", "of="+ballast, "bs=1M", "count=10", "status=none")
	to := filepath.Join(dir, "copy.img")
	_, err := l.CLI("restpoints", "export", id, "--disk", "0", "--to", to)
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("export onto a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := l.CLI("restpoints", "export", id, "--disk", "0", "--to", to); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(to); err != nil || !bytes.Equal(b, content) {
		t.Errorf("the export is not the disk: %d bytes, %v", len(b), err)
	}
}

func restpoints(t *testing.T, l *lab.Lab) []restpoint {
	t.Helper()
	var list []restpoint
	l.JSON(&list, "restpoints", "ls", "web1")
	return list
}

// TestTwoAgentsOneIdentity: a copy of an agent's state directory is used beside the original. Both are frozen, the operator sees it, and
// after the copy is gone and the machine is unfrozen, replication goes on.
func TestTwoAgentsOneIdentity(t *testing.T) {
	l, disk, _ := start(t, pattern(2<<20, 8))
	l.Proc("agent").Stop()
	command(t, "cp", "-a", l.Path("agent"), l.Path("copy-of-agent"))
	l.StartAgent("", disk)
	l.Eventually(time.Minute, "the original works", func() error {
		_, err := l.CLI("machines", "sync", "web1", "--wait", "--timeout", "20s")
		return err
	})
	twin := exec.Command(filepath.Join(l.Bin, "openmigrate-agent"), "run", "--state-dir", l.Path("copy-of-agent"), "--disk", disk)
	if err := twin.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = twin.Process.Kill()
		_ = twin.Wait()
	})
	var m struct {
		Frozen string `json:"frozen"`
	}
	l.Eventually(time.Minute, "the identity is frozen", func() error {
		l.JSON(&m, "machines", "show", "web1")
		if m.Frozen == "" {
			return os.ErrInvalid
		}
		return nil
	})
	if _, err := l.CLI("machines", "sync", "web1", "--wait", "--timeout", "3s"); err == nil {
		t.Error("a frozen machine makes restpoints")
	}
	_ = twin.Process.Kill()
	if _, err := l.CLI("machines", "unfreeze", "web1"); err != nil {
		t.Fatal(err)
	}
	l.Proc("agent").Stop()
	l.StartAgent("", disk)
	l.Eventually(2*time.Minute, "replication goes on", func() error {
		_, err := l.CLI("machines", "sync", "web1", "--wait", "--timeout", "20s")
		return err
	})
}

// TestRevokedAgentIsCutOff: at once, and for good.
func TestRevokedAgentIsCutOff(t *testing.T) {
	l, disk, id := start(t, pattern(2<<20, 9))
	if _, err := l.CLI("machines", "revoke", "web1"); err != nil {
		t.Fatal(err)
	}
	l.Eventually(30*time.Second, "the agent ends by itself", func() error {
		if !l.Proc("agent").Exited() {
			return os.ErrProcessDone
		}
		return nil
	})
	if status := l.StartAgent("", disk).Wait(time.Minute); status != 4 {
		t.Errorf("a revoked agent ends with status %d, want 4", status)
	}
	to := l.Path("still.img")
	if _, err := l.CLI("restpoints", "export", id, "--disk", "0", "--to", to); err != nil {
		t.Errorf("the restpoints of a revoked machine: %v", err)
	}
}
