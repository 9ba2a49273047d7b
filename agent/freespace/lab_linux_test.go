package freespace

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
)

const miB = 1 << 20

// run runs a program and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// imageDir is a folder for images, in memory if that can be had: the file systems in them sync all the time.
func imageDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "freespace")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// newDisk attaches an empty sparse image of size bytes.
func newDisk(t *testing.T, size int64) *sourcetest.LoopDevice {
	t.Helper()
	file := filepath.Join(imageDir(t), "disk.img")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	return sourcetest.NewLoopDevice(t, file, sourcetest.LoopOptions{})
}

// mounted is a mounted file system.
type mounted struct {
	t    *testing.T
	dir  string
	open bool
}

func mountAt(t *testing.T, device, fstype, options string) *mounted {
	t.Helper()
	m := &mounted{t: t, dir: t.TempDir(), open: true}
	if err := unix.Mount(device, m.dir, fstype, unix.MS_NOATIME, options); err != nil {
		t.Fatalf("mount %s (%s, %q): %v", device, fstype, options, err)
	}
	t.Cleanup(m.unmount)
	return m
}

func (m *mounted) unmount() {
	if !m.open {
		return
	}
	m.open = false
	if err := unix.Unmount(m.dir, 0); err != nil {
		m.t.Errorf("unmount %s: %v", m.dir, err)
		_ = unix.Unmount(m.dir, unix.MNT_DETACH)
	}
}

// frozen calls fn while the file system is frozen.
func (m *mounted) frozen(fn func()) {
	m.t.Helper()
	dir, err := os.Open(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	const fiFreeze, fiThaw = 0xc0045877, 0xc0045878
	if err := unix.IoctlSetInt(int(dir.Fd()), fiFreeze, 0); err != nil {
		m.t.Fatalf("freeze %s: %v", m.dir, err)
	}
	defer func() {
		if err := unix.IoctlSetInt(int(dir.Fd()), fiThaw, 0); err != nil {
			m.t.Fatalf("thaw %s: %v", m.dir, err)
		}
	}()
	fn()
}

func (m *mounted) statfs() unix.Statfs_t {
	m.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(m.dir, &st); err != nil {
		m.t.Fatal(err)
	}
	return st
}

// fill writes files of many sizes, with holes, preallocated and appended ones among them, until about budget bytes are written; then
// it deletes every other one, and fills some of the gaps again.
func fill(t *testing.T, dir string, rng *rand.Rand, budget int64) {
	t.Helper()
	data := noise(rng, 4*miB)
	var names []string
	write := func(budget int64) {
		for n := 0; budget > 0; n++ {
			name := filepath.Join(dir, fmt.Sprintf("d%d", rng.IntN(20)), fmt.Sprintf("f%d", len(names)))
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			size := rng.Int64N(1 << (1 + rng.IntN(22)))
			f, err := os.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			at := rng.Int64N(int64(len(data)) - size)
			_, err = f.WriteAt(data[at:at+size], rng.Int64N(3)*rng.Int64N(64<<10)) // some begin with a hole
			if n%16 == 0 {
				err = errors.Join(err, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, size, 1+rng.Int64N(256<<10)))
			}
			if n%8 == 0 {
				err = errors.Join(err, f.Sync()) // its blocks are chosen now
			}
			if err := errors.Join(err, f.Close()); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				t.Fatal(err)
			}
			names = append(names, name)
			budget -= max(size, 4096)
		}
	}
	write(budget)
	if err := syncDir(dir); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(names); i += 2 {
		if err := os.Remove(names[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := syncDir(dir); err != nil {
		t.Fatal(err)
	}
	write(budget / 8)
}

// noise is n bytes that no compression and no accident makes.
func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], rng.Uint64())
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	return b
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return syncfs(dir)
}

// hashes are those of all files below dir.
func hashes(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	sums := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		sums[name] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

// copyWithout copies an image as an agent would that made a first pass and read again what was written since the map was asked
// for. What it does not read is garbage in place of zeros, which nothing that matters can pass for.
func copyWithout(t *testing.T, image string, free Ranges, written map[int64]bool) string {
	t.Helper()
	out := filepath.Join(imageDir(t), "copy.img")
	from, err1 := os.Open(image)
	to, err2 := os.Create(out)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(from.Close(), to.Close()) }()
	buf, zeros, garbage := make([]byte, miB), make([]byte, miB), bytes.Repeat([]byte{0xff}, Grain)
	size := int64(0)
	for {
		n, err := io.ReadFull(from, buf)
		for at := int64(0); at < int64(n); at += Grain {
			i := free.from(size + at)
			if i < len(free) && free[i].Start <= size+at && !written[size+at] {
				copy(buf[at:n], garbage)
			}
		}
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := to.WriteAt(buf[:n], size); err != nil {
				t.Fatal(err)
			}
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return out
}

// of calls Of and checks the form of its result.
func of(t *testing.T, device string, opts *Options) (Ranges, []Note) {
	t.Helper()
	free, notes, err := Of(context.Background(), Disk{Path: device}, opts)
	if err != nil {
		t.Fatal(err)
	}
	end := int64(-1)
	for _, r := range free {
		if r.Start <= end || r.End <= r.Start || r.Start%Grain != 0 || r.End%Grain != 0 {
			t.Fatalf("range %+v after %d: not sorted, apart and aligned", r, end)
		}
		end = r.End
	}
	return free, notes
}
