//go:build e2e

package hydrator

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/e2e/vm"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/wire"
)

// A real Debian is looked at, and shown converted, from a small part of its data.
func TestRealMachine(t *testing.T) {
	roottest.Need(t, "loop devices and mounts")
	img := read(t, vm.Build(t, vm.Recipe{}).Path)
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img, ChunkSize: chunker.SizeFor(int64(len(img))), PackSize: 32 << 20})
	stored := int64(0)
	for _, p := range rp.Packs {
		stored += p.Size
	}
	const mib = 1 << 20
	n := testNode(t, w, t.TempDir())
	began := time.Now()
	j := w.Job(wire.JobInspect, rp)
	j.Convert = forKVM
	res, err := n.work(t.Context(), j, func(wire.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("disk of %d MiB, %d MiB stored: inspected in %.1f s from %.1f MiB", len(img)/mib, stored/mib, time.Since(began).Seconds(), float64(res.Fetched)/mib)
	if res.Fetched > stored/2 {
		t.Errorf("%d of %d bytes were fetched", res.Fetched, stored)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began = time.Now()
	res, err = n.work(ctx, serveJob(w, rp, forKVM), func(p wire.Progress) {
		t.Logf("%6.1f s %s", time.Since(began).Seconds(), p.Phase)
		if len(p.Views) == 0 {
			return
		}
		if st, err := os.Lstat(p.Views[0].Socket); err != nil || st.Mode()&os.ModeSocket == 0 {
			t.Errorf("no socket: %v", err)
		}
		cancel()
	})
	if ctx.Err() == nil || len(res.Report) == 0 {
		t.Fatal(err)
	}
	t.Logf("shown after %.1f s from %.1f MiB; %.1f MiB are in the layer; report of %d bytes", time.Since(began).Seconds(), float64(res.Fetched)/mib, float64(res.Written)/mib, len(res.Report))
	if res.Fetched > stored {
		t.Errorf("%d of %d bytes were fetched", res.Fetched, stored)
	}
	unmounted(t, n)
}
