package overhead

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/bench/loop"
	"github.com/openmigrate/openmigrate/internal/roottest"
)

func TestRatio(t *testing.T) {
	if r := (Pair{Plain: 97 * time.Second, Tracked: 100 * time.Second}).Ratio(); r != 0.97 {
		t.Errorf("97 s against 100 s is %v", r)
	}
	if r := (Pair{}).Ratio(); r != 0 {
		t.Errorf("nothing is %v", r)
	}
}

func TestMeasure(t *testing.T) {
	roottest.Need(t, "eBPF and loop devices")
	dev, err := loop.Attach(filepath.Join(t.TempDir(), "disk"), 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	}()
	d := track.Disk{ID: "d", Path: dev.Path, Size: dev.Size}
	o := ebpf.Options{Instance: fmt.Sprintf("test-overhead-%d", os.Getpid())}
	for round := range 2 {
		p, err := Measure(t.Context(), d, o, 1<<20, round)
		if err != nil || p.Plain <= 0 || p.Tracked <= 0 {
			t.Errorf("round %d: %+v, %v", round, p, err)
		}
	}
	if slices.Contains(Others(), o.Instance) {
		t.Error("programs are still attached")
	}
}
