package inventory

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
	"github.com/openmigrate/openmigrate/wire"
)

// The inventory and the sources must agree on the ids of this very host's devices, and a partition table must be seen although
// this kernel may not know any.
func TestCollectThisHost(t *testing.T) {
	if !sourcetest.LoopWanted() {
		return
	}
	file := filepath.Join(t.TempDir(), "disk.raw")
	d, err := hostDisks{"x": {{0, "testdata/gpt512.img.gz", nil}, {6 << 20, "fsprobe/testdata/ext4.head.gz", nil}}}.open(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(io.NewSectionReader(d, 0, 16<<20))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := sourcetest.NewLoopDevice(t, file, sourcetest.LoopOptions{})

	inv, err := Collect(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var found *wire.BlockDevice
	for i, d := range inv.Devices {
		if d.Path == loop.Path {
			found = &inv.Devices[i]
		}
		if !d.Selected && d.Path != loop.Path {
			continue
		}
		s, err := source.New(d.Path, nil)
		if errors.Is(err, os.ErrPermission) { // a container may see a disk that it may not open
			if len(inv.Notes) == 0 {
				t.Errorf("%s cannot be opened, and there is no note", d.Path)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s is selected but is no source: %v", d.Path, err)
			continue
		}
		if s.ID() != d.ID {
			t.Errorf("%s: the inventory has id %s, the source %s", d.Path, d.ID, s.ID())
		}
		if n, err := s.Size(context.Background()); err != nil || n != d.Size {
			t.Errorf("%s: the inventory has %d bytes, the source %d, %v", d.Path, d.Size, n, err)
		}
	}
	if found == nil {
		t.Fatalf("%s is not in the inventory: %+v", loop.Path, inv.Devices)
	}
	if found.Table == nil || len(found.Table.Partitions) != 3 || found.Table.Partitions[2].Content == nil || found.Selected {
		t.Errorf("%s: %+v", loop.Path, found)
	}
	if inv.Hostname == "" || inv.Kernel.Release == "" || inv.CPU.Count == 0 || inv.MemoryBytes == 0 || len(inv.Filesystems) == 0 {
		t.Errorf("this host has no name, kernel, CPU, memory or file system: %+v", inv)
	}
}
