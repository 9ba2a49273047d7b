package tree

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// hostile is a system whose links try to lead out of it, beside a file that must not be reached.
func hostile(t *testing.T) (tr *Tree, dir, outside string) {
	t.Helper()
	top := t.TempDir()
	dir, outside = filepath.Join(top, "system"), filepath.Join(top, "outside")
	for _, d := range []string{dir, outside, filepath.Join(dir, "etc"), filepath.Join(dir, "usr/lib")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{outside + "/passwd": "host", dir + "/etc/passwd": "guest"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, link := range map[string]string{
		"abs": "/etc/passwd", "up": "../../../../etc/passwd", "out": outside + "/passwd", "outup": "../outside/passwd",
		"lib": "usr/lib", "dir": "/etc", "dirout": "../outside", "loop": "loop", "chain": "dir/../abs", "usr/lib/back": "../../../../etc",
	} {
		if err := os.Symlink(link, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr, dir, outside
}

func TestLinksStayInside(t *testing.T) {
	tr, _, outside := hostile(t)
	for _, name := range []string{"/etc/passwd", "etc/passwd", "/abs", "/up", "dir/passwd", "/../../etc/passwd", "chain", "lib/back/passwd"} {
		if b, err := tr.ReadFile(name); err != nil || string(b) != "guest" {
			t.Errorf("read %s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"/out", "outup", "dirout/passwd", outside + "/passwd", "loop"} {
		if b, err := tr.ReadFile(name); err == nil {
			t.Errorf("%s gave %q", name, b)
		}
	}
	if _, err := tr.ReadFile("loop"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link to itself: %v", err)
	}
}

func TestWritesStayInside(t *testing.T) {
	tr, dir, outside := hostile(t)
	for _, name := range []string{"/out", "dirout/passwd", "outup"} {
		_ = tr.WriteFile(name, []byte("pwned"), 0o600)
		_ = tr.Remove(name + "/passwd")
	}
	if b, err := os.ReadFile(outside + "/passwd"); err != nil || string(b) != "host" {
		t.Errorf("the file outside holds %q, %v", b, err)
	}
	// A file is replaced where its link leads to, and the link stays.
	if err := tr.WriteFile("/abs", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(dir + "/etc/passwd"); string(b) != "new" {
		t.Errorf("the link's target holds %q", b)
	}
	if link, err := os.Readlink(dir + "/abs"); err != nil || link != "/etc/passwd" {
		t.Errorf("the link is %q, %v", link, err)
	}
	if info, err := os.Stat(dir + "/etc/passwd"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode became %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(dir + "/etc/*" + temporary); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What would block, or never end, is not opened.
func TestOddFiles(t *testing.T) {
	tr, dir, _ := hostile(t)
	if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(dir + "/large")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<40), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.ReadFile("large"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge file: %v", err)
	}
	for _, name := range []string{"fifo", "etc", "missing"} {
		if _, err := tr.ReadFile(name); err == nil {
			t.Errorf("%s was read", name)
		}
		if name != "missing" && tr.WriteFile(name, nil, 0o600) == nil {
			t.Errorf("%s was replaced", name)
		}
	}
}

func TestCopyKeepsMode(t *testing.T) {
	tr, dir, _ := hostile(t)
	if err := os.WriteFile(dir+"/etc/tool", []byte("#!/bin/sh\n"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := tr.Copy("/etc/tool", "/var/lib/backup/etc/tool"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir + "/var/lib/backup/etc/tool"); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", info, err)
	}
	if err := tr.Copy("/abs", "/var/lib/backup/abs"); err != nil {
		t.Fatal(err)
	}
	if link, err := tr.Readlink("/var/lib/backup/abs"); err != nil || link != "/etc/passwd" {
		t.Errorf("the copy of the link is %q, %v", link, err)
	}
}

func FuzzResolve(f *testing.F) {
	f.Add("a/../b/./c", "../x")
	f.Add("/l/l/l", "/l/../..")
	f.Fuzz(func(t *testing.T, name, link string) {
		dir := t.TempDir()
		_ = os.Symlink(link, dir+"/l")
		tr, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		real, err := tr.Resolve(name)
		if err == nil && (strings.HasPrefix(real, "/") || real == ".." || strings.HasPrefix(real, "../")) {
			t.Errorf("%q with a link to %q leads to %q", name, link, real)
		}
	})
}
