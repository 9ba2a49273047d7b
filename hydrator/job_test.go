package hydrator

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

var quick = reader.Options{Backoff: time.Millisecond, Timeout: 5 * time.Second}

func TestVolumePath(t *testing.T) {
	for name, ok := range map[string]bool{
		"web-1": true, "m1.disk0": true, "": false, ".": false, "..": false, "../x": false, "a/b": false, ".hidden": false,
		"A": false, "a\x00": false, "a b": false, string(make([]byte, 200)): false,
	} {
		p, err := VolumePath("/data", name)
		if ok != (err == nil) || ok && p != "/data/volumes/"+name+".raw" || !ok && !errors.Is(err, ErrName) {
			t.Errorf("%q: %s, %v", name, p, err)
		}
	}
}

func TestExport(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(40, 100, 11)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	path := filepath.Join(t.TempDir(), "disk.raw")
	shown := 0
	res, err := Export(context.Background(), w, w.Job(wire.JobExport, rp), 0, path, &ExportOptions{
		Reader: quick, Progress: func(wire.Progress) { shown++ }})
	if err != nil || res.Written == 0 || shown == 0 {
		t.Fatalf("%+v, %v, progress shown %d times", res, err, shown)
	}
	mustHold(t, path, img)
	if done, failed := w.Ended(); len(done) != 1 || !reflect.DeepEqual(done[0], res) || len(failed) != 0 {
		t.Errorf("the master was told %+v, %+v", done, failed)
	}
	full := filepath.Join(t.TempDir(), "full")
	if err := os.WriteFile(full, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(context.Background(), w, w.Job(wire.JobExport, rp), 0, full, nil); !errors.Is(err, volume.ErrNotEmpty) {
		t.Errorf("%v, want ErrNotEmpty", err)
	}
	if _, failed := w.Ended(); len(failed) != 1 || failed[0].Code != "target-not-empty" {
		t.Errorf("the master was told %+v", failed)
	}
}

func TestRestpointMustBeSignedTwice(t *testing.T) {
	w, stranger := hydratortest.NewWorld(t, nil), hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: image(41, 5, 0)})
	theirs := stranger.Replicate(t, "r", hydratortest.Image{Data: image(41, 5, 0)})
	for name, c := range map[string]struct {
		edit    func(j *wire.Job)
		trusted []byte
		want    error
	}{
		"other master's key":  {func(j *wire.Job) { j.Restpoint.MasterKey = theirs.Wire.MasterKey }, nil, format.ErrSignature},
		"other agent's key":   {func(j *wire.Job) { j.Restpoint.AgentKey = theirs.Wire.AgentKey }, nil, format.ErrSignature},
		"not the enrolled":    {func(*wire.Job) {}, theirs.Wire.MasterKey, format.ErrSignature},
		"other machine":       {func(j *wire.Job) { j.Restpoint.Machine = "m2" }, nil, format.ErrSignature},
		"older in the chain":  {func(j *wire.Job) { j.Restpoint.Sequence++ }, nil, format.ErrSignature},
		"other restpoint":     {func(j *wire.Job) { j.Restpoint.ID = "r0" }, nil, format.ErrSignature},
		"other project":       {func(j *wire.Job) { j.Project = "p2" }, nil, format.ErrSignature},
		"other project's key": {func(j *wire.Job) { j.Keys = stranger.Keys.MarshalBinary() }, nil, format.ErrWrongKey},
		"flipped bit":         {func(j *wire.Job) { j.Restpoint.Object[100] ^= 1 }, nil, format.ErrSignature},
		"cut":                 {func(j *wire.Job) { j.Restpoint.Object = j.Restpoint.Object[:60] }, nil, format.ErrCorrupt},
	} {
		job := w.Job(wire.JobExport, rp)
		job.Restpoint.Object = append([]byte(nil), job.Restpoint.Object...)
		c.edit(job)
		path := filepath.Join(t.TempDir(), "disk.raw")
		if _, err := Export(context.Background(), w, job, 0, path, &ExportOptions{MasterKey: c.trusted}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: a target was made", name)
		}
	}
}

func startNode(t *testing.T, w *hydratortest.World, dir string) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Client: w, DataDir: dir, Reader: quick, Retry: time.Millisecond,
			Log: slog.New(slog.DiscardHandler)})
	}()
	return func() error { cancel(); return <-ended }
}

// until waits for something that another goroutine brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s did not come about", what)
		}
	}
}

func TestNodeWorksThroughJobs(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(42, 60, 0)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	dir := t.TempDir()
	stop := startNode(t, w, dir)
	zero, nine := 0, 9
	add := func(kind, id, target string, disk *int) {
		j := w.Job(kind, rp)
		j.ID, j.Target, j.Disk = id, target, disk
		if kind == wire.JobProve {
			j.Packs, j.Restpoint = rp.Packs, nil
		}
		w.Queue(j)
	}
	add(wire.JobProve, "j1", "", nil)
	add(wire.JobVerify, "j2", "", nil)
	add(wire.JobHydrate, "j3", "web", &zero)
	add(wire.JobHydrate, "j4", "../evil", &zero)
	add(wire.JobHydrate, "j5", "web", &nine)
	add(wire.JobHydrate, "j6", "web", nil)
	add("dance", "j7", "", nil)
	until(t, "the end of seven jobs", func() bool { done, failed := w.Ended(); return len(done)+len(failed) == 7 })
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if done, failed := w.Ended(); len(done) != 3 || len(failed) != 4 {
		t.Errorf("done %+v, failed %+v", done, failed)
	}
	mustHold(t, filepath.Join(dir, "volumes", "web.raw"), img)
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 1 {
		t.Errorf("the data folder holds %v", names)
	}
}

// hang makes the bucket never answer, until the test ends.
func hang(t *testing.T, w *hydratortest.World) {
	free := make(chan struct{})
	t.Cleanup(func() { close(free) })
	w.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-free:
		case <-r.Context().Done():
		}
		return true
	})
}

func TestNodeHearsCancel(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: image(43, 60, 0)})
	hang(t, w)
	stop := startNode(t, w, t.TempDir())
	j := w.Job(wire.JobVerify, rp)
	j.Lease.TTL = wire.Duration(time.Second)
	w.Queue(j)
	until(t, "the first request", func() bool { return w.Gets() > 0 })
	w.Cancel(j.ID)
	until(t, "the end of the job", func() bool { _, failed := w.Ended(); return len(failed) == 1 })
	if _, failed := w.Ended(); failed[0].Code != "cancelled" {
		t.Errorf("failed with %+v", failed)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestNodeStopsInTheMiddle(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	img := image(44, 60, 0)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: img})
	hang(t, w)
	dir := t.TempDir()
	stop := startNode(t, w, dir)
	j, zero := w.Job(wire.JobHydrate, rp), 0
	j.Target, j.Disk = "web", &zero
	w.Queue(j)
	until(t, "the first request", func() bool { return w.Gets() > 0 })
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, failed := w.Ended(); len(failed) != 1 || failed[0].Code != "stopped" {
		t.Errorf("the master was told %+v", failed)
	}
	w.Intercept(nil)
	stop = startNode(t, w, dir)
	w.Queue(j)
	until(t, "the end of the job", func() bool { done, _ := w.Ended(); return len(done) == 1 })
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	mustHold(t, filepath.Join(dir, "volumes", "web.raw"), img)
}

// fenced is a master that gave the job to somebody else.
type fenced struct{ *hydratortest.World }

func (f fenced) RenewJob(context.Context, string, *wire.Progress) (*wire.JobLease, error) {
	return nil, wire.NewProblem(http.StatusConflict, wire.CodeFenced, "the lease ended")
}

func TestLostLeaseStopsTheWork(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	rp := w.Replicate(t, "r", hydratortest.Image{Data: image(45, 60, 0)})
	hang(t, w)
	j := w.Job(wire.JobExport, rp)
	j.Lease.TTL = wire.Duration(200 * time.Millisecond)
	_, err := Export(context.Background(), fenced{w}, j, 0, filepath.Join(t.TempDir(), "d"), &ExportOptions{Reader: quick})
	if !errors.Is(err, errLeaseLost) || !wire.HasCode(err, wire.CodeFenced) {
		t.Errorf("%v", err)
	}
	if done, failed := w.Ended(); len(done)+len(failed) != 0 {
		t.Errorf("the master was told of a job that is not ours any more: %v, %v", done, failed)
	}
}

type revoked struct{ *hydratortest.World }

func (revoked) Hello(context.Context, string, *wire.Hello) (*wire.HelloResponse, error) {
	return nil, wire.NewProblem(http.StatusForbidden, wire.CodeRevoked, "this node was revoked")
}

func TestRevokedNodeEnds(t *testing.T) {
	w := hydratortest.NewWorld(t, nil)
	if err := Run(context.Background(), Options{Client: revoked{w}, DataDir: t.TempDir()}); !wire.HasCode(err, wire.CodeRevoked) {
		t.Errorf("%v", err)
	}
}

// lossy loses the answers to the first hellos.
type lossy struct {
	*hydratortest.World
	mu          sync.Mutex
	generations []uint64 // guarded by mu
	heard       chan struct{}
}

func (l *lossy) Hello(_ context.Context, _ string, h *wire.Hello) (*wire.HelloResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generations = append(l.generations, h.Generation)
	if len(l.generations) < 3 {
		return nil, errors.New("connection reset")
	}
	close(l.heard)
	return &wire.HelloResponse{}, nil
}

// The master may have heard a hello whose answer was lost: the next one is not the same, which it would take for a copy's.
func TestEachHelloIsNew(t *testing.T) {
	l := &lossy{World: hydratortest.NewWorld(t, nil), heard: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	var last uint64
	ended := make(chan error)
	go func() {
		ended <- Run(ctx, Options{Client: l, DataDir: t.TempDir(), Retry: time.Millisecond, Kinds: []string{wire.JobVerify},
			Hello: func() (*wire.Hello, error) { last++; return &wire.Hello{Generation: last}, nil }})
	}()
	<-l.heard
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !slices.Equal(l.generations, []uint64{1, 2, 3}) {
		t.Errorf("generations %v", l.generations)
	}
}
