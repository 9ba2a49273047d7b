package hydrator_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/openmigrate/openmigrate/hydrator"
	"github.com/openmigrate/openmigrate/hydrator/files"
	"github.com/openmigrate/openmigrate/hydrator/fuse"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/view"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/staging/fault"
	"github.com/openmigrate/openmigrate/wire"
)

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// A file system in a restpoint comes out the same by both ways, though staging stumbles: read in this program, and mounted by the kernel from a
// loop device on a file of the view.
func TestBrowseFileSystem(t *testing.T) {
	roottest.Need(t, "mounting")
	dir := t.TempDir()
	tree, image := filepath.Join(dir, "tree"), filepath.Join(dir, "image")
	r := mrand.New(mrand.NewPCG(5, 5))
	noise := mrand.NewChaCha8([32]byte{5})
	for i := range 120 {
		b := make([]byte, r.IntN(1<<(4+i%15)))
		_, _ = noise.Read(b)
		name := filepath.Join(tree, fmt.Sprintf("d%d", i%7), fmt.Sprintf("f%d", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "mkfs.ext4", "-q", "-d", tree, image, "24M")
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: data})
	faulty := fault.NewHandler(w.Store)
	for n := 2; n < 400; n += 9 {
		faulty.Add(fault.Rule{Nth: n, HalfBody: true})
	}
	w.Intercept(func(rw http.ResponseWriter, r *http.Request) bool { faulty.ServeHTTP(rw, r); return true })
	err = hydrator.Browse(t.Context(), w, w.Job(wire.JobExport, rp), nil, func(ctx context.Context, v *view.View) error {
		d := v.Disks()[0]
		f, err := files.Open(d, d.Size())
		if err != nil {
			return err
		}
		on := filepath.Join(dir, "on")
		if err := os.Mkdir(on, 0o700); err != nil {
			return err
		}
		m, err := fuse.New(on, []fuse.Disk{d}, nil)
		if err != nil {
			return err
		}
		defer func() {
			if err := m.Unmount(); err != nil {
				t.Error(err)
				_ = m.Detach() // or the process would not end
			}
			m.Wait()
		}()
		if got, err := os.ReadFile(filepath.Join(on, fuse.Name(0))); err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("the file differs from the disk: %w", err)
		}
		mounted := t.TempDir()
		// The device is made and taken away by hand: with -o loop it would keep the file open for a moment longer than the mount.
		loop, err := exec.CommandContext(ctx, "losetup", "--find", "--show", "--read-only", filepath.Join(on, fuse.Name(0))).Output()
		if err != nil {
			return fmt.Errorf("losetup: %w", err)
		}
		device := string(bytes.TrimSpace(loop))
		command(t, "mount", "-o", "ro,noload", device, mounted)
		defer func() { command(t, "umount", mounted); command(t, "losetup", "-d", device) }()
		return compareTree(ctx, tree, mounted, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Damage()) != 0 {
		t.Errorf("trouble on the way was reported as damage: %+v", w.Damage())
	}
}

func compareTree(ctx context.Context, tree, mounted string, f files.FS) error {
	return filepath.WalkDir(tree, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(mounted, name)); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs in the mount: %w", name, err)
		}
		info, err := files.Lookup(f, name, true)
		if err != nil {
			return err
		}
		c, err := f.Open(info.Inode)
		if err != nil {
			return err
		}
		to, err := os.CreateTemp(filepath.Dir(tree), "copy")
		if err != nil {
			return err
		}
		defer to.Close()
		if err := files.Copy(ctx, to, c, nil); err != nil {
			return err
		}
		if got, err := os.ReadFile(to.Name()); err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs when it is copied: %w", name, err)
		}
		return nil
	})
}
