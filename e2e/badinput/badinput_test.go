// Package badinput gives the real programs what people and broken machines give them, and expects a clear error, the
// promised exit status, and nothing lost.
package badinput

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/lab"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBinaries()
	os.Exit(code)
}

// expect runs a command that must fail with status and say want.
func expect(t *testing.T, l *lab.Lab, status int, want string, args ...string) {
	t.Helper()
	out, err := l.CLI(args...)
	var failed *lab.CLIError
	if !errors.As(err, &failed) {
		t.Errorf("openmigrate %s succeeded: %s", strings.Join(args, " "), out)
		return
	}
	if failed.Status != status {
		t.Errorf("openmigrate %s: exit status %d, want %d: %s", strings.Join(args, " "), failed.Status, status, failed.Stderr)
	}
	if !regexp.MustCompile(want).MatchString(failed.Stderr) {
		t.Errorf("openmigrate %s says %q, want %q", strings.Join(args, " "), failed.Stderr, want)
	}
	if strings.Contains(failed.Stderr, "goroutine ") {
		t.Errorf("openmigrate %s panicked: %s", strings.Join(args, " "), failed.Stderr)
	}
}

func TestCommands(t *testing.T) {
	l := lab.New(t)
	disk := l.Path("disk.img")
	content := bytes.Repeat([]byte("content of a disk\n"), 1<<16)
	if err := os.WriteFile(disk, content, 0o600); err != nil {
		t.Fatal(err)
	}
	l.StartAgent(l.Token("agent"), disk)
	waitForMachine(t, l)
	var point struct{ ID string }
	l.JSON(&point, "machines", "sync", "web1", "--wait")
	export := func(to string, more ...string) []string {
		return append([]string{"restpoints", "export", point.ID, "--disk", "0", "--to", to}, more...)
	}

	t.Run("unknown ids", func(t *testing.T) {
		expect(t, l, 3, "nosuch", "machines", "show", "nosuch")
		expect(t, l, 3, "nosuch", "restpoints", "ls", "nosuch")
		expect(t, l, 3, "nosuch", "restpoints", "show", "nosuch")
		expect(t, l, 3, "nosuch", "restpoints", "show", "nosuch/latest")
		expect(t, l, 3, "disk 7|no disk", "restpoints", "export", point.ID, "--disk", "7", "--to", l.Path("x.img"))
	})
	t.Run("usage", func(t *testing.T) {
		expect(t, l, 2, "unknown command", "nosuch")
		expect(t, l, 2, "unknown flag", "machines", "ls", "--nosuch")
		expect(t, l, 2, "arg", "machines", "show")
		expect(t, l, 2, "json", "machines", "ls", "-o", "yaml")
		expect(t, l, 2, "--to", "restpoints", "export", point.ID, "--disk", "0")
	})
	t.Run("target is too small", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Fatal("needs root for a loop device: run the tests as root, as CI does")
		}
		small := l.Path("small.dev")
		if err := os.WriteFile(small, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(small, 512<<10); err != nil {
			t.Fatal(err)
		}
		expect(t, l, 1, "small", export(loopDevice(t, small))...)
	})
	t.Run("target holds something else", func(t *testing.T) {
		other := l.Path("precious.txt")
		if err := os.WriteFile(other, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, l, 1, "--overwrite", export(other)...)
		if b, err := os.ReadFile(other); err != nil || string(b) != "precious" {
			t.Errorf("the refused export changed the file: %q, %v", b, err)
		}
		if _, err := l.CLI(export(other, "--overwrite")...); err != nil {
			t.Error(err)
		}
		if b, err := os.ReadFile(other); err != nil || !bytes.Equal(b, content) {
			t.Errorf("after --overwrite the file is not the disk: %d bytes, %v", len(b), err)
		}
	})
	t.Run("target is mounted", func(t *testing.T) {
		image := l.Path("fs.img")
		run(t, "truncate", "-s", "8M", image)
		run(t, "mkfs.ext4", "-q", "-F", image)
		dev := loopDevice(t, image)
		dir := t.TempDir()
		run(t, "mount", dev, dir)
		t.Cleanup(func() { run(t, "umount", dir) })
		expect(t, l, 1, "mounted", export(dev, "--overwrite")...)
		expect(t, l, 1, "mounted|in use", export(image, "--overwrite")...)
	})
	t.Run("target is a folder", func(t *testing.T) {
		expect(t, l, 1, "folder|directory", export(l.Dir)...)
	})
	t.Run("wrong credentials", func(t *testing.T) {
		cmd := l.Command("machines", "ls")
		cmd.Env = append(cmd.Env, "OPENMIGRATE_TOKEN=omt_wrong")
		fails(t, cmd, 4, "token")
	})
	t.Run("wrong CA", func(t *testing.T) {
		other := lab.New(t)
		cmd := l.Command("machines", "ls")
		cmd.Env = append(cmd.Env, "OPENMIGRATE_CA_FILE="+other.Env("OPENMIGRATE_CA_FILE"))
		fails(t, cmd, 1, "certificate")
	})
	t.Run("no master", func(t *testing.T) {
		cmd := l.Command("machines", "ls")
		cmd.Env = append(cmd.Env, "OPENMIGRATE_URL=https://127.0.0.1:1")
		fails(t, cmd, 1, "127.0.0.1:1")
	})
}

func TestEnrolment(t *testing.T) {
	l := lab.New(t)
	disk := l.Path("disk.img")
	if err := os.WriteFile(disk, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := func(state, token string) *exec.Cmd {
		return exec.Command(filepath.Join(l.Bin, "openmigrate-agent"), "run", "--master", l.Env("OPENMIGRATE_URL"),
			"--token", token, "--state-dir", l.Path(state), "--disk", disk)
	}
	good := l.Token("agent")
	fails(t, agent("a", "nonsense"), 1, "token")
	fields := strings.Split(good, ".")
	if len(fields) != 5 {
		t.Fatalf("token has %d fields", len(fields))
	}
	wrongSecret := strings.Join([]string{fields[0], fields[1], fields[2], strings.Repeat("0", len(fields[3])), fields[4]}, ".")
	fails(t, agent("b", wrongSecret), 4, "token")
	wrongCA := strings.Join([]string{fields[0], fields[1], fields[2], fields[3], strings.Repeat("0", len(fields[4]))}, ".")
	fails(t, agent("c", wrongCA), 1, "fingerprint|CA")
	fails(t, agent("d", l.Token("node")), 4, "agent|node")

	l.StartAgent(good, disk)
	waitForMachine(t, l)
	fails(t, agent("e", good), 4, "used")
}

func TestStagingURLs(t *testing.T) {
	bin := lab.Binaries(t)
	master := func(dir string, env []string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, "openmigrate"), append([]string{"master", "--data-dir", dir, "--listen", "127.0.0.1:0"}, args...)...)
		cmd.Env = append(os.Environ(), env...)
		return cmd
	}
	keys := []string{"AWS_ACCESS_KEY_ID=nobody", "AWS_SECRET_ACCESS_KEY=nothing-at-all"}
	fails(t, master(t.TempDir(), keys, "--staging", "ftp://x"), 2, "s3://")
	fails(t, master(t.TempDir(), keys, "--staging", "s3://bucket?endpoint=http://127.0.0.1:1"), 1, "127.0.0.1:1")
	fails(t, master(t.TempDir(), keys, "--staging", "s3://bucket?endpoint=http://127.0.0.1:1&secret_key=x"), 2, "secret")
}

// fails runs a command that must end by itself with status and say want.
func fails(t *testing.T, cmd *exec.Cmd, status int, want string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(90*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // judged by its status
	name := filepath.Base(cmd.Path) + " " + strings.Join(cmd.Args[1:], " ")
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Errorf("%s: exit status %d, want %d: %s", name, got, status, stderr.String())
	}
	if !regexp.MustCompile(want).MatchString(stderr.String()) {
		t.Errorf("%s says %q, want %q", name, stderr.String(), want)
	}
}

func waitForMachine(t *testing.T, l *lab.Lab) {
	t.Helper()
	l.Eventually(time.Minute, "agent enrolled", func() error {
		var list []struct{ ID string }
		l.JSON(&list, "machines", "ls")
		if len(list) == 0 {
			return errors.New("no machine")
		}
		return nil
	})
}

func loopDevice(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { run(t, "losetup", "--detach", dev) })
	return dev
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}
