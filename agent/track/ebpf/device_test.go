package ebpf_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/tracktest"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

// TestRefused: what cannot be tracked is scanned, with a reason.
func TestRefused(t *testing.T) {
	roottest.Need(t, "eBPF and loop devices")
	file := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(file, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	tr := openTracker(t, instance(t))
	defer func() { _ = tr.Close() }()
	disks := []track.Disk{{ID: "file", Path: file, Size: 4096}, {ID: "gone", Path: "/dev/no-such-disk", Size: 4096}}
	if err := tr.Watch(t.Context(), disks); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"file": "it is a file", "gone": "no such file", "unknown": "not watched"} {
		if st := tr.Status(id); st.Tracker != "scan" || !strings.Contains(st.Why, want) {
			t.Errorf("%s: %+v", id, st)
		}
	}
}

// TestBioBased runs the suite on a disk that has no requests: zram, where the kernel has it.
func TestBioBased(t *testing.T) {
	roottest.Need(t, "eBPF and loop devices")
	b, err := os.ReadFile("/sys/class/zram-control/hot_add")
	if os.IsNotExist(err) {
		roottest.Lacks(t, "this kernel has no zram")
	}
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(b))
	t.Cleanup(func() {
		if err := os.WriteFile("/sys/class/zram-control/hot_remove", []byte(id), 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile("/sys/block/zram"+id+"/disksize", []byte("16777216"), 0); err != nil {
		t.Fatal(err)
	}
	opts, path := instance(t), "/dev/zram"+id
	tracktest.Run(t, tracktest.Subject{
		Open:  func() track.Tracker { return openTracker(t, opts) },
		Disk:  track.Disk{ID: "zram", Path: path, Size: size},
		Write: func(off int64) { write4K(t, path, off) },
		Marks: true,
	})
}
