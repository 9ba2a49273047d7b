//go:build e2e

package freespace

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/e2e/vm"
)

// TestLogicalVolumesInMachine runs TestLogicalVolumes on a distribution's kernel, which has a device mapper.
func TestLogicalVolumesInMachine(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "freespace.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test: %v\n%s", err, out)
	}
	m := vm.Start(t, vm.Build(t, vm.Recipe{Root: vm.LVM}), vm.Options{Bus: vm.VirtioBlk, Disks: []int64{256 << 20}})
	m.WaitBoot()
	if err := m.Put(ctx, program, "/var/tmp/freespace.test", 0o700); err != nil {
		t.Fatal(err)
	}
	t.Log(m.Shell(ctx, lvmDisk+"=/dev/vdb /var/tmp/freespace.test -test.run '^TestLogicalVolumes$' -test.v 2>&1"))
}
