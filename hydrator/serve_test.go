package hydrator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/hydrator/convert/apart"
	"github.com/openmigrate/openmigrate/hydrator/convert/converttest"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/internal/roottest"
	"github.com/openmigrate/openmigrate/wire"
)

// served waits until a job's views are known.
func served(t *testing.T, w *hydratortest.World) []wire.View {
	t.Helper()
	var views []wire.View
	until(t, "the views of a serve job", func() bool {
		if _, failed := w.Ended(); len(failed) > 0 {
			t.Fatalf("the job failed: %+v", failed)
		}
		all := w.Progress()
		if len(all) > 0 {
			views = all[len(all)-1].Views
		}
		return len(views) > 0
	})
	return views
}

// fetch copies what is served as QEMU sees it.
func fetch(t *testing.T, v wire.View) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy")
	out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "raw", fmt.Sprintf("nbd+unix:///%s?socket=%s", v.Export, v.Socket), path).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	return path
}

func needQEMU(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		roottest.Lacks(t, "qemu-img is needed to read what is served")
	}
}

func serveJob(w *hydratortest.World, rp *hydratortest.Replicated, c *wire.Conversion) *wire.Job {
	j := w.Job(wire.JobServe, rp)
	j.Provider, j.Convert = "p", c
	return j
}

// While disks are served other jobs go on; what is served is the restpoint, converted or as it is; and nothing is left when the job is cancelled.
func TestServe(t *testing.T) {
	needQEMU(t)
	m := converttest.New(t)
	img := read(t, m.Disk())
	data := image(76, 40, 0)
	for name, c := range map[string]*wire.Conversion{"converted": forKVM, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			w := hydratortest.NewWorld(t, nil)
			rp := w.Replicate(t, "r", hydratortest.Image{Data: img}, hydratortest.Image{Data: data})
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() {
				ended <- Run(ctx, Options{Client: w, DataDir: dir, Reader: quick, Retry: time.Millisecond, Wait: 100 * time.Millisecond,
					Providers: map[string]string{"p": t.TempDir()}, Log: slog.New(slog.DiscardHandler)})
			}()
			j := serveJob(w, rp, c)
			w.Queue(j)
			views := served(t, w)
			if len(views) != 2 || len(views[0].Socket) > maxSocket || (views[0].Export == "disk0") != (c == nil) {
				t.Fatalf("%+v", views)
			}
			if st, err := os.Lstat(views[0].Socket); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("the socket is %v, %v", st.Mode(), err)
			}
			if reports := w.Reports(); (len(reports) == 1) != (c != nil) || c != nil && !bytes.Contains(reports[0], []byte("initrd.img-6.1-test")) {
				t.Errorf("when it began to serve, the master had the reports %s", reports)
			}
			w.Queue(w.Job(wire.JobVerify, rp)) // by the node's only lane
			until(t, "the end of another job", func() bool { done, _ := w.Ended(); return len(done) == 1 })
			first := read(t, fetch(t, views[0]))
			if again := read(t, fetch(t, views[0])); !bytes.Equal(first, again) {
				t.Error("what is served changes")
			}
			if c == nil && !bytes.Equal(first, img) {
				t.Error("the plain view is not the disk")
			}
			mustHold(t, fetch(t, views[1]), data)
			if c != nil {
				checkConverted(t, first)
			}
			w.Cancel(j.ID)
			until(t, "the end of the serve job", func() bool { _, failed := w.Ended(); return len(failed) == 1 })
			if _, failed := w.Ended(); failed[0].Code != "cancelled" {
				t.Errorf("it ended with %+v", failed)
			}
			if _, err := net.Dial("unix", views[0].Socket); err == nil {
				t.Error("somebody still serves")
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			detached(t, (&node{o: Options{DataDir: dir}}).viewName())
		})
	}
}

// checkConverted has another process look at the disk, and wants nothing to be left to do.
func checkConverted(t *testing.T, b []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("e2fsck", "-fn", path+"?offset=1048576").CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	target, err := conversion(forKVM)
	if err != nil {
		t.Fatal(err)
	}
	_, report, err := apart.Convert(t.Context(), []apart.Disk{{File: f}}, *target, nil)
	if err != nil || len(report.Changes) != 0 {
		t.Errorf("what was served is not converted: %+v, %v", report, err)
	}
}

// A machine that cannot be converted is refused before anything is served; a lease that is lost in the middle of it leaves nothing.
func TestServeStops(t *testing.T) {
	img := slow(t)
	w := hydratortest.NewWorld(t, nil)
	n := testNode(t, w, t.TempDir())
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	j := serveJob(w, rp, forKVM)
	j.Lease.TTL = wire.Duration(6 * time.Second)
	client, seen := &fickle{World: w}, ""
	_, err := hold(t.Context(), client, j, nil, func(ctx context.Context, show func(wire.Progress)) (wire.JobResult, error) {
		return n.work(ctx, j, func(p wire.Progress) {
			seen = p.Phase
			client.lost.Store(seen == "initramfs")
			show(p)
		})
	})
	if !errors.Is(err, errLeaseLost) || seen != "initramfs" {
		t.Errorf("%v in %q", err, seen)
	}
	detached(t, n.viewName())
	unmounted(t, n)
	_, err = n.work(t.Context(), serveJob(w, w.Replicate(t, "noise", hydratortest.Image{Data: image(77, 20, 0)}), forKVM), func(wire.Progress) {})
	if failureCode(err) != wire.CodeRefused {
		t.Errorf("a disk of noise: %v", err)
	}
	j = serveJob(w, rp, nil)
	j.Provider = "q"
	if _, err := n.work(t.Context(), j, func(wire.Progress) {}); failureCode(err) != "provider" {
		t.Errorf("for a provider that the node was not told of: %v", err)
	}
	unmounted(t, n)
}

// Sockets have short paths, wherever the data folder is.
func TestSocketPath(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	n := testNode(t, w, t.TempDir())
	n.o.DataDir = filepath.Join(t.TempDir(), strings.Repeat("long", 25))
	t.Cleanup(n.removeRun)
	if err := n.makeRun(); err != nil {
		t.Fatal(err)
	}
	path, err := n.socket("../../job")
	if err != nil || len(path) > maxSocket-atomicly || filepath.Dir(path) != n.shortDir() {
		t.Errorf("%s, %v", path, err)
	}
	if again, err := n.socket("../../job"); err != nil || again != path {
		t.Errorf("%s, %v", again, err)
	}
	if other, err := n.socket("another"); err != nil || other == path {
		t.Errorf("%s, %v", other, err)
	}
	if err := os.Chmod(n.shortDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := n.socket("x"); err == nil {
		t.Error("a folder that others can read is taken")
	}
}

// Reports that are too long are cut, and say so.
func TestBoundReport(t *testing.T) {
	r := &convert.Report{}
	for i := range 5000 {
		r.Changes = append(r.Changes, convert.Change{Path: fmt.Sprintf("/etc/%d", i), Action: "changed", Reason: strings.Repeat("because ", 10)})
	}
	b, err := boundReport(r)
	var got convert.Report
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	if err != nil || len(b) > wire.MaxConvertReport || len(got.Changes) == 0 || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "of 5000 changes") {
		t.Errorf("%d bytes, %d changes, %q, %v", len(b), len(got.Changes), got.Warnings, err)
	}
	s := &convert.System{Notes: []string{strings.Repeat("n", wire.MaxConvertReport)}}
	if _, err := boundSystem(s); err == nil {
		t.Error("a system that cannot be cut is sent")
	}
}
