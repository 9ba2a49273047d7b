package hydrator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/hydrator/convert/converttest"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/wire"
)

// detached fails unless no loop device shows a file whose path contains part.
func detached(t *testing.T, part string) {
	t.Helper()
	until(t, "the end of loop devices on "+part, func() bool {
		out, err := exec.Command("losetup", "--noheadings", "--output", "BACK-FILE", "--all").Output()
		if err != nil {
			t.Fatal(err)
		}
		return !bytes.Contains(out, []byte(part))
	})
}

// unmounted fails if anything of a node's is mounted where this process sees it.
func unmounted(t *testing.T, n *node) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, n.o.DataDir) || strings.Contains(line, n.viewName()) {
			t.Errorf("mounted: %s", line)
		}
	}
	if left, err := os.ReadDir(n.runDir()); err != nil || len(left) != 0 {
		t.Errorf("left in the run folder: %v, %v", left, err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var forKVM = &wire.Conversion{Platform: "kvm", Disk: "virtio-blk", Mark: &wire.CopyMark{Machine: "m1", Launch: "l1", Secret: "hush"}}

// A machine is looked at through a view, hydrated onto a volume, and converted there.
func TestInspectAndConvert(t *testing.T) {
	m := converttest.New(t)
	w := hydratortest.NewWorld(t, nil)
	img := read(t, m.Disk())
	// A second disk with nothing of the system on it.
	data := image(73, 40, 0)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img}, hydratortest.Image{Data: data})
	folder := t.TempDir()
	n := testNode(t, w, folder)
	var steps []string
	show := func(p wire.Progress) { steps = append(steps, p.Phase) }
	inspect := w.Job(wire.JobInspect, rp)
	inspect.Convert = forKVM
	res, err := n.work(t.Context(), inspect, show)
	if err != nil {
		t.Fatal(err)
	}
	var s convert.System
	if err := json.Unmarshal(res.Report, &s); err != nil || s.OS.ID != "debian" || s.Disks[0].Path != "disk 0" || len(s.Disks) != 2 || len(steps) < 2 {
		t.Errorf("found %+v, %v, after %q", s, err, steps)
	}
	if res.Fetched == 0 || res.Fetched > int64(len(img)) {
		t.Errorf("it took %d bytes to look at a disk of %d", res.Fetched, len(img))
	}
	var list []wire.Volume
	for i := range 2 {
		v := wire.Volume{ID: "vol-" + string(rune('a'+i)), Path: raw(t, folder, string(rune('a'+i)), 32<<20), Size: 32 << 20}
		list = append(list, v)
		j := onto(w, rp, v)
		j.Disk = &i
		if _, err := n.work(t.Context(), j, func(wire.Progress) {}); err != nil {
			t.Fatal(err)
		}
	}
	job := w.Job(wire.JobConvert, nil)
	job.Keys, job.Provider, job.Volumes, job.Convert = nil, "p", list, forKVM
	for i := range 2 {
		steps = nil
		res, err = n.work(t.Context(), job, show)
		if err != nil {
			t.Fatal(err)
		}
		var r convert.Report
		if err := json.Unmarshal(res.Report, &r); err != nil || (len(r.Changes) == 0) != (i == 1) || bytes.Contains(res.Report, []byte("hush")) {
			t.Errorf("round %d: %s, %v", i, res.Report, err)
		}
		if !strings.Contains(strings.Join(steps, " "), "initramfs") {
			t.Errorf("steps shown: %q", steps)
		}
	}
	if got := read(t, list[0].Path); bytes.Equal(got[:len(img)], img) || !bytes.Contains(got, []byte(`"secret":"hush"`)) {
		t.Error("the disk has not changed, or has no mark")
	}
	mustHold(t, list[1].Path, data)
	// What was converted can be hydrated again.
	if _, err := n.work(t.Context(), onto(w, rp, list[0]), func(wire.Progress) {}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, list[0].Path, img)
	detached(t, folder)
	unmounted(t, n)
}

// What cannot be converted is refused with what to do, before and after hydration; what cannot be read is not called so.
func TestRefusedMachines(t *testing.T) {
	m := converttest.New(t)
	w := hydratortest.NewWorld(t, nil)
	n := testNode(t, w, t.TempDir())
	good := read(t, m.Disk())
	unbootable := bytes.Clone(good)
	clear(unbootable[:440])
	head, err := exec.Command("gzip", "-dc", "../internal/partition/fsprobe/testdata/luks2.head.gz").Output()
	if err != nil {
		t.Fatal(err)
	}
	luks := append(head, make([]byte, 80<<20-len(head))...)
	for name, c := range map[string]struct {
		data   []byte
		target *wire.Conversion
		want   string
	}{
		"encrypted":    {luks, forKVM, "decrypt the root on the source"},
		"noise":        {image(74, 40, 0), forKVM, "no root file system was found"},
		"no boot code": {unbootable, forKVM, "no disk can start a machine"},
		"no driver":    {good, &wire.Conversion{Platform: "vmware", Disk: "pvscsi"}, "no driver"},
		"no such disk": {good, &wire.Conversion{Platform: "kvm", Disk: "floppy"}, "no disks of kind"},
		"no UEFI":      {good, &wire.Conversion{Platform: "kvm", Firmware: "uefi"}, "starts from BIOS only"},
	} {
		j := w.Job(wire.JobInspect, w.Replicate(t, strings.ToLower(strings.ReplaceAll(name, " ", "-")), hydratortest.Image{Data: c.data}))
		j.Convert = c.target
		_, err := n.work(t.Context(), j, func(wire.Progress) {})
		if !errors.Is(err, convert.ErrRefused) || failureCode(err) != wire.CodeRefused || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rp := w.Replicate(t, "gone", hydratortest.Image{Data: append(bytes.Clone(good), image(75, 9, 0)...)})
	w.Forget(rp.Chunks[16], rp.Chunks[17]) // the file system's head
	if _, err := n.work(t.Context(), w.Job(wire.JobInspect, rp), func(wire.Progress) {}); err == nil || errors.Is(err, convert.ErrRefused) {
		t.Errorf("a restpoint that cannot be read: %v", err)
	}
}

// slow is a machine whose initramfs takes longer to build than anybody waits.
func slow(t *testing.T) []byte {
	m := converttest.New(t)
	m.Files["usr/sbin/mkinitramfs"] = "#!/bin/sh\nsleep 1000 &\nexec sleep 1000\n"
	return read(t, m.Disk())
}

// fickle is a master that renews leases for a moment, and none once they are lost.
type fickle struct {
	*hydratortest.World
	lost atomic.Bool
}

func (f *fickle) RenewJob(ctx context.Context, job string, p *wire.Progress) (*wire.JobLease, error) {
	if f.lost.Load() {
		return fenced{f.World}.RenewJob(ctx, job, p)
	}
	lease, err := f.World.RenewJob(ctx, job, p)
	if lease != nil {
		lease.TTL = wire.Duration(6 * time.Second)
	}
	return lease, err
}

// A job whose lease is lost, or that is cancelled, in the middle of a conversion leaves nothing behind, and the volume is locked until then.
func TestConvertStops(t *testing.T) {
	img := slow(t)
	w := hydratortest.NewWorld(t, nil)
	folder := t.TempDir()
	n := testNode(t, w, folder)
	path := filepath.Join(folder, "disk.raw")
	for name, want := range map[string]error{"lost": errLeaseLost, "cancelled": ErrCancelled} {
		client := &fickle{World: w}
		if err := os.WriteFile(path, img, 0o600); err != nil {
			t.Fatal(err)
		}
		j := w.Job(wire.JobConvert, nil)
		j.ID, j.Provider, j.Volumes, j.Convert = name, "p", []wire.Volume{{ID: "v", Path: path}}, forKVM
		j.Lease.TTL = wire.Duration(6 * time.Second)
		busy := false
		_, err := hold(t.Context(), client, j, nil, func(ctx context.Context, show func(wire.Progress)) (wire.JobResult, error) {
			return n.work(ctx, j, func(p wire.Progress) {
				show(p)
				if p.Phase != "initramfs" {
					return
				}
				_, _, err := n.openVolume("p", &j.Volumes[0])
				busy = errors.Is(err, volume.ErrInUse)
				if name == "cancelled" {
					w.Cancel(name)
				}
				client.lost.Store(name == "lost")
			})
		})
		if !errors.Is(err, want) || !busy {
			t.Errorf("%s: %v; the volume was locked: %v", name, err, busy)
		}
		detached(t, folder)
		v, _, err := n.openVolume("p", &j.Volumes[0])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	unmounted(t, n)
}

// An inspection whose bucket does not answer ends when its lease is lost.
func TestInspectStops(t *testing.T) {
	img := read(t, converttest.New(t).Disk())
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	n := testNode(t, w, t.TempDir())
	client := &fickle{World: w}
	var gets atomic.Int64
	free := make(chan struct{})
	defer close(free)
	w.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if gets.Add(1) < 4 {
			return false
		}
		client.lost.Store(true)
		select {
		case <-free:
		case <-r.Context().Done():
		}
		return true
	})
	j := w.Job(wire.JobInspect, rp)
	j.Lease.TTL = wire.Duration(4 * time.Second)
	_, err := hold(t.Context(), client, j, nil, func(ctx context.Context, show func(wire.Progress)) (wire.JobResult, error) {
		return n.work(ctx, j, show)
	})
	if !errors.Is(err, errLeaseLost) || gets.Load() < 4 {
		t.Errorf("%v after %d requests", err, gets.Load())
	}
	w.Intercept(nil)
	detached(t, n.viewName())
	unmounted(t, n)
}
