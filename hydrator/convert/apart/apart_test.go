package apart_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/hydrator/convert/apart"
	"github.com/openmigrate/openmigrate/hydrator/convert/converttest"
	"github.com/openmigrate/openmigrate/hydrator/fuse"
	"github.com/openmigrate/openmigrate/hydrator/layer"
)

// Set in a process that is to convert a disk and be killed: how, and the disk's path and folder for temporary files.
const (
	howEnv  = "OPENMIGRATE_TEST_APART"
	pathEnv = "OPENMIGRATE_TEST_APART_PATH"
	dirEnv  = "OPENMIGRATE_TEST_APART_DIR"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(howEnv); how != "" {
		if err := doomed(how, os.Getenv(pathEnv), os.Getenv(dirEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// file is a disk of package fuse.
type file struct{ f *os.File }

func (f file) Number() int { return 0 }
func (f file) Size() int64 {
	st, err := f.f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}
func (f file) ReadContext(_ context.Context, p []byte, off int64) (int, error) {
	return f.f.ReadAt(p, off)
}

func (f file) Extent(_ context.Context, off, limit int64) (int64, bool, error) {
	return min(limit, f.Size()-off), false, nil
}

// viewName begins the name of the file of a disk.
func viewName(dir string) string { return strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-") }

func doomed(how, path, dir string) error {
	ctx := context.Background()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	o := &apart.Options{Dir: dir, Progress: func(step string) { fmt.Println(step) }}
	target := convert.Target{Platform: convert.KVM}
	if how == "file" {
		_, _, err = apart.Convert(ctx, []apart.Disk{{File: f}}, target, o)
		return err
	}
	l, err := layer.New(ctx, dir, file{f}, nil)
	if err != nil {
		return err
	}
	m, err := fuse.NewPrivate([]fuse.Disk{l}, &fuse.Options{Name: viewName(dir)})
	if err != nil {
		return err
	}
	_, _, err = apart.Convert(ctx, []apart.Disk{{File: m.File(), Name: m.Name(0)}}, target, o)
	return errors.Join(err, m.Close())
}

// left are processes that were started with dir for their temporary files, and loop devices on a disk.
func left(t *testing.T, path, dir string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "losetup", "--noheadings", "--output", "BACK-FILE", "--all").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, path) || strings.HasPrefix(line, "/"+viewName(dir)) {
			return "a loop device on " + line
		}
	}
	list, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, []byte("TMPDIR="+dir)) {
			return "process " + name
		}
	}
	return ""
}

// Whoever kills the process that a conversion belongs to ends all of it: the process that converts, the machine's own programs, mounts and loop devices,
// also where the killed process itself served the disk.
func TestKilled(t *testing.T) {
	m := converttest.New(t)
	m.Files["usr/sbin/mkinitramfs"] = "#!/bin/sh\nsleep 1000 &\nexec sleep 1000\n"
	path := m.Disk()
	for _, how := range []string{"file", "view"} {
		for _, at := range []string{"looking at the disks", "fstab", "network", "initramfs"} {
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Env = append(os.Environ(), howEnv+"="+how, pathEnv+"="+path, dirEnv+"="+dir)
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			said := &strings.Builder{}
			for b := make([]byte, 1); !strings.HasSuffix(said.String(), at+"\n"); {
				if _, err := out.Read(b); err != nil {
					t.Fatalf("%s: it said %q: %v", how, said, err)
				}
				said.Write(b)
			}
			if at == "initramfs" { // the program in the fence has started, or is about to
				time.Sleep(100 * time.Millisecond)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			deadline := time.Now().Add(time.Minute)
			for left(t, path, dir) != "" {
				if time.Now().After(deadline) {
					t.Fatalf("%s, killed at %s: %s is left", how, at, left(t, path, dir))
				}
				time.Sleep(10 * time.Millisecond)
			}
			b, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil || bytes.Contains(b, []byte(dir)) {
				t.Errorf("%s, killed at %s: mounted: %s, %v", how, at, b, err)
			}
		}
	}
}

// The process that converts may die by itself; its words are kept, and nobody takes that for a refusal.
func TestChildDies(t *testing.T) {
	m := converttest.New(t)
	m.Files["usr/sbin/mkinitramfs"] = "#!/bin/sh\nexec sleep 1000\n"
	path, dir := m.Disk(), t.TempDir()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _, err = apart.Convert(t.Context(), []apart.Disk{{File: f}}, convert.Target{Platform: convert.KVM}, &apart.Options{Dir: dir, Progress: func(step string) {
		if step == "initramfs" {
			killChild(t, dir)
		}
	}})
	if err == nil || errors.Is(err, convert.ErrRefused) || !strings.Contains(err.Error(), "ended early") {
		t.Errorf("%v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

// killChild kills the child of this process whose folder is dir.
func killChild(t *testing.T, dir string) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, []byte("TMPDIR="+dir)) {
			pid := 0
			if _, err := fmt.Sscanf(name, "/proc/%d/", &pid); err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Error("no child was found")
}

func TestInspect(t *testing.T) {
	path := converttest.New(t).Disk()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	for _, d := range []apart.Disk{{File: f}, {File: folder, Name: filepath.Base(path)}} {
		s, err := apart.Inspect(t.Context(), []apart.Disk{d}, &convert.Target{Platform: convert.KVM}, nil)
		if err != nil || s.OS.ID != "debian" {
			t.Errorf("%+v, %v", s, err)
		}
		s, err = apart.Inspect(t.Context(), []apart.Disk{d}, &convert.Target{Platform: "toaster"}, nil)
		if !errors.Is(err, convert.ErrRefused) || s == nil {
			t.Errorf("%+v, %v", s, err)
		}
		if err := apart.Probe(t.Context(), d, nil); err != nil {
			t.Error(err)
		}
	}
}
