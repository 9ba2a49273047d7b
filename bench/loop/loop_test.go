package loop

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/roottest"
)

func TestDevice(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	dir := t.TempDir()
	d, err := Attach(filepath.Join(dir, "disk"), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Ext4(t.Context(), filepath.Join(dir, "mnt")); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Join(dir, "mnt"), &fs); err != nil || fs.Type != unix.EXT4_SUPER_MAGIC || int64(fs.Blocks)*fs.Bsize > 64<<20 {
		t.Errorf("mounted is %+v, %v", fs, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mnt", "file"), []byte("content"), 0o600); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "mnt")); err != nil || len(left) > 0 {
		t.Errorf("after Close the folder holds %v, %v", left, err)
	}
	info, err := os.Stat(filepath.Join(dir, "disk"))
	if err != nil || info.Size() != 64<<20 {
		t.Errorf("the file behind it: %v, %v", info, err)
	}
	again, err := Attach(filepath.Join(dir, "disk"), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Attach(filepath.Join(dir, "no", "disk"), 1<<20); err == nil {
		t.Error("a file in no folder is attached")
	}
}
