package files_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/hydrator/files"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		roottest.Lacks(t, name+" is needed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mount mounts on dir until the test ends. A loop device may let go of its file a little later: -l waits for that in the kernel.
func mount(t testing.TB, dir string, args ...string) {
	t.Helper()
	run(t, "mount", append(args, dir)...)
	t.Cleanup(func() { run(t, "umount", "-l", dir) })
}

func open(t testing.TB, image string) files.FS {
	t.Helper()
	f, err := os.Open(image)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	must(t, err)
	fsys, err := files.Open(f, st.Size())
	must(t, err)
	return fsys
}

// populate makes what file systems store in different ways.
func populate(t testing.TB, dir string) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	write := func(name string, b []byte) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o640))
	}
	for _, n := range []int{0, 1, 50, 60, 61, 100, 150, 400, 4095, 4096, 4097, 100000, 3 << 20} {
		write(fmt.Sprintf("sizes/%d", n), random(n))
	}
	must(t, os.MkdirAll(filepath.Join(dir, "many"), 0o755))
	for i := range 1500 {
		must(t, os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("%d-%s", i, strings.Repeat("ñ", i%90))), nil, 0o600))
		if i%3 == 0 { // free entries between the others
			must(t, os.Remove(filepath.Join(dir, "many", fmt.Sprintf("%d-%s", i, strings.Repeat("ñ", i%90)))))
		}
	}
	for i := range 5 { // folders that stand in their inode where there is inline data
		write(fmt.Sprintf("small-%d/%s", i, strings.Repeat("x", 10*i+1)), nil)
		write(fmt.Sprintf("small-%d/b", i), nil)
	}
	write(strings.Repeat("deep/", 60)+"file", random(10))

	holes, err := os.Create(filepath.Join(dir, "holes"))
	must(t, err)
	for i := range 1500 { // an extent each: a tree of more than one level
		_, err := holes.WriteAt(random(4096), int64(i)*12288)
		must(t, err)
	}
	if err := unix.Fallocate(int(holes.Fd()), 0, 1500*12288, 1<<20); !errors.Is(err, unix.EOPNOTSUPP) { // allocated, never written
		must(t, err)
	}
	must(t, holes.Truncate(40<<20+5))
	must(t, holes.Close())

	for i, to := range []string{"sizes/100", "/sizes/4097", strings.Repeat("a", 59), strings.Repeat("b", 60), strings.Repeat("c", 300), strings.Repeat("d/", 500), "loop"} {
		must(t, os.Symlink(to, filepath.Join(dir, fmt.Sprintf("link%d", i))))
	}
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	must(t, os.Symlink("../sizes", filepath.Join(dir, "small-0", "up")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, os.Chmod(filepath.Join(dir, "sizes", "1"), 0o4755))
	must(t, os.Chown(filepath.Join(dir, "sizes", "1"), 100000, 200000))
	must(t, os.Chtimes(filepath.Join(dir, "sizes", "1"), time.Now(), time.Unix(5000000000, 123456789)))
	must(t, os.Chtimes(filepath.Join(dir, "sizes", "50"), time.Now(), time.Unix(-5000, 0)))
	for i := range 20 {
		_ = unix.Setxattr(filepath.Join(dir, "sizes", "100"), fmt.Sprintf("user.a%d", i), bytes.Repeat([]byte{'v'}, 30), 0) // old ones have no room for all
	}
}

// compare walks the mounted file system and finds all of it, and no more, in the image.
func compare(t *testing.T, dir string, fsys files.FS) {
	t.Helper()
	seen := 0
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		must(t, err)
		seen++
		name, _ := filepath.Rel(dir, path)
		st, err := os.Lstat(path)
		must(t, err)
		sys := st.Sys().(*syscall.Stat_t)
		got, err := files.Lookup(fsys, name, false)
		if err != nil {
			t.Errorf("%v", err)
			return nil
		}
		if got.Mode != st.Mode() || got.Inode != sys.Ino || got.UID != sys.Uid || got.GID != sys.Gid || st.Mode().IsRegular() && got.Size != st.Size() ||
			!st.ModTime().Equal(got.ModTime) {
			t.Errorf("%.80s: %+v, the kernel says %v %d %d:%d", name, got, st.Mode(), st.Size(), sys.Uid, sys.Gid)
		}
		switch {
		case st.Mode().IsRegular():
			want, err := os.ReadFile(path)
			must(t, err)
			c, err := fsys.Open(got.Inode)
			if err != nil {
				t.Errorf("%.80s: %v", name, err)
				return nil
			}
			b := make([]byte, len(want)+1)
			if n, err := c.ReadAt(b, 0); !errors.Is(err, io.EOF) || !bytes.Equal(b[:n], want) {
				t.Errorf("%.80s: content differs: %d bytes of %d, %v", name, n, len(want), err)
			}
		case st.Mode().Type() == fs.ModeSymlink:
			want, err := os.Readlink(path)
			must(t, err)
			if link, err := fsys.ReadLink(got.Inode); err != nil || link != want {
				t.Errorf("%s points to %.80q, %v; the kernel says %.80q", name, link, err, want)
			}
		case st.IsDir():
			want, err := os.ReadDir(path)
			must(t, err)
			n := 0
			if err := fsys.ReadDir(got.Inode, func(string, uint64) error { n++; return nil }); err != nil || n != len(want) {
				t.Errorf("%.80s has %d entries, %v; the kernel says %d", name, n, err, len(want))
			}
		}
		return nil
	}))
	if seen < 1000 {
		t.Errorf("only %d files were compared", seen)
	}
}

func TestAgainstTheKernel(t *testing.T) {
	roottest.Need(t, "mounting file systems")
	for name, mkfs := range map[string][]string{
		"ext3":              {"mkfs.ext3", "-q", "-b", "1024", "-N", "8000"},
		"ext4":              {"mkfs.ext4", "-q"},
		"ext4, inline data": {"mkfs.ext4", "-q", "-O", "inline_data", "-I", "512"},
		"ext4, meta groups": {"mkfs.ext4", "-q", "-b", "1024", "-O", "meta_bg,^resize_inode,bigalloc"},
		"ext4, 32 bits":     {"mkfs.ext4", "-q", "-O", "^64bit,^flex_bg,^metadata_csum", "-b", "2048"},
		"xfs":               {"mkfs.xfs", "-q", "-i", "nrext64=1"},
		"xfs, large dirs":   {"mkfs.xfs", "-q", "-n", "size=16384", "-i", "size=512,nrext64=0", "-b", "size=1024"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			memory, dir := t.TempDir(), t.TempDir()
			mount(t, memory, "-t", "tmpfs", "openmigrate-test")
			image := filepath.Join(memory, "image")
			must(t, os.WriteFile(image, nil, 0o600))
			must(t, os.Truncate(image, 320<<20))
			run(t, mkfs[0], append(mkfs[1:], image)...)
			mount(t, dir, "-o", "loop", image)
			populate(t, dir)
			if name == "ext4" && !open(t, image).Unclean() {
				t.Error("a file system that is mounted is clean")
			}
			run(t, "mount", "-o", "remount,ro", dir) // all is where it belongs, as after a freeze
			fsys := open(t, image)
			if fsys.Unclean() {
				t.Error("a file system that nobody writes is unclean")
			}
			compare(t, dir, fsys)
			lookups(t, fsys)
			copied(t, fsys, dir)
		})
	}
}

func lookups(t *testing.T, fsys files.FS) {
	t.Helper()
	for path, same := range map[string]string{
		"/link0": "sizes/100", "link1": "sizes/4097", "small-0/up/50": "sizes/50", "../..": "/", "//sizes/./../sizes/": "sizes", "small-0/up/../many": "many",
	} {
		got, err := files.Lookup(fsys, path, true)
		want, wantErr := files.Lookup(fsys, same, true)
		if err != nil || wantErr != nil || got.Inode != want.Inode {
			t.Errorf("%s is %d, %v; %s is %d, %v", path, got.Inode, err, same, want.Inode, wantErr)
		}
	}
	for path, want := range map[string]error{"none": fs.ErrNotExist, "sizes/50/x": fs.ErrNotExist, "loop": fs.ErrInvalid, "loop/x": fs.ErrInvalid} {
		if _, err := files.Lookup(fsys, path, true); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func copied(t *testing.T, fsys files.FS, dir string) {
	t.Helper()
	info, err := files.Lookup(fsys, "holes", true)
	must(t, err)
	c, err := fsys.Open(info.Inode)
	must(t, err)
	to, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	must(t, err)
	defer to.Close()
	must(t, files.Copy(t.Context(), to, c, nil))
	got, err := os.ReadFile(to.Name())
	must(t, err)
	want, err := os.ReadFile(filepath.Join(dir, "holes"))
	must(t, err)
	st, err := to.Stat()
	must(t, err)
	if used := st.Sys().(*syscall.Stat_t).Blocks * 512; !bytes.Equal(got, want) || used > 20<<20 {
		t.Errorf("the copy differs or is not sparse: %d bytes, %d used", len(got), used)
	}
}

// XFS of version 4 is what servers of before 2015 have, and new kernels do not mount.
func TestOldXFS(t *testing.T) {
	dir := t.TempDir()
	data := bytes.Repeat([]byte("0123456789"), 20000)
	file, proto, image := filepath.Join(dir, "file"), filepath.Join(dir, "proto"), filepath.Join(dir, "image")
	must(t, os.WriteFile(file, data, 0o600))
	p := "/\n0 0\nd--755 0 0\nmany d--755 0 0\n"
	for i := range 500 {
		p += fmt.Sprintf("entry-%d l--777 0 0 to-%d\n", i, i)
	}
	must(t, os.WriteFile(proto, []byte(p+"$\nfile ---640 7 8 "+file+"\n$\n"), 0o600))
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 300<<20))
	run(t, "mkfs.xfs", "-q", "-m", "crc=0", "-p", proto, image)
	fsys := open(t, image)
	info, err := files.Lookup(fsys, "file", true)
	must(t, err)
	c, err := fsys.Open(info.Inode)
	must(t, err)
	got := make([]byte, len(data))
	if _, err := c.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) || info.UID != 7 || info.GID != 8 || info.Mode != 0o640 {
		t.Errorf("%v, %+v", err, info)
	}
	for i := range 500 {
		info, err := files.Lookup(fsys, fmt.Sprintf("many/entry-%d", i), false)
		must(t, err)
		if link, err := fsys.ReadLink(info.Inode); err != nil || link != fmt.Sprintf("to-%d", i) {
			t.Errorf("entry %d: %s, %v", i, link, err)
		}
	}
}

func TestOtherFileSystems(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(image, make([]byte, 1<<20), 0o600))
	must(t, os.Truncate(image, 128<<20))
	try := func(want string) {
		t.Helper()
		f, err := os.Open(image)
		must(t, err)
		defer f.Close()
		if _, err := files.Open(f, 128<<20); !errors.Is(err, files.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
	try("no file system")
	run(t, "mkfs.btrfs", "-q", image)
	try("btrfs")
}
