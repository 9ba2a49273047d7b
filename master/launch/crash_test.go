package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/wire"
)

var errDead = errors.New("the master is dead")

// crash kills a service: at its nth point nothing more of it gets out, to the database, the catalog or the provider. Points are before and after each
// durable write and each call that changes something.
type crash struct {
	mu    sync.Mutex
	left  int // points until then; negative: never
	seen  int
	where string
	dead  bool
}

// at passes a point, or is dead.
func (c *crash) at(point string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errDead
	}
	c.seen++
	if c.left--; c.left == 0 {
		c.dead, c.where = true, point
		return errDead
	}
	return nil
}

func (c *crash) alive() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errDead
	}
	return nil
}

func do[T any](c *crash, what string, fn func() (T, error)) (T, error) {
	var none T
	if err := c.at("before " + what); err != nil {
		return none, err
	}
	v, err := fn()
	if err != nil {
		return v, err
	}
	if err := c.at("after " + what); err != nil {
		return none, err
	}
	return v, nil
}

func doErr(c *crash, what string, fn func() error) error {
	_, err := do(c, what, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

type crashDB struct {
	store.Store
	c *crash
}

func (d crashDB) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := d.c.alive(); err != nil {
		return err
	}
	return d.Store.View(ctx, fn)
}

func (d crashDB) Update(ctx context.Context, fn func(store.Writer) error) error {
	return doErr(d.c, "a write", func() error { return d.Store.Update(ctx, fn) })
}

type crashCatalog struct {
	Catalog
	c *crash
}

func (k crashCatalog) KeepRestpoint(ctx context.Context, id, keeper string) error {
	return doErr(k.c, "keep restpoint", func() error { return k.Catalog.KeepRestpoint(ctx, id, keeper) })
}

func (k crashCatalog) LetGoRestpoint(ctx context.Context, id, keeper string) error {
	return doErr(k.c, "let restpoint go", func() error { return k.Catalog.LetGoRestpoint(ctx, id, keeper) })
}

func (k crashCatalog) CreateJob(ctx context.Context, spec catalog.JobSpec) (catalog.Job, error) {
	return do(k.c, "create job "+spec.Kind, func() (catalog.Job, error) { return k.Catalog.CreateJob(ctx, spec) })
}

func (k crashCatalog) CancelJob(ctx context.Context, id string) error {
	return doErr(k.c, "cancel job", func() error { return k.Catalog.CancelJob(ctx, id) })
}

func (k crashCatalog) SetHold(ctx context.Context, machine string, h *wire.Hold) error {
	return doErr(k.c, fmt.Sprintf("set hold %v", h != nil), func() error { return k.Catalog.SetHold(ctx, machine, h) })
}

type crashProvider struct {
	providers.Provider
	c     *crash
	count *made
}

// made counts what was ever made.
type made struct{ instances map[string]bool }

func (p crashProvider) CreateVolume(ctx context.Context, s providers.VolumeSpec) (providers.Volume, error) {
	return do(p.c, "create volume", func() (providers.Volume, error) { return p.Provider.CreateVolume(ctx, s) })
}

func (p crashProvider) AttachVolume(ctx context.Context, id, writer string) error {
	return doErr(p.c, "attach volume", func() error { return p.Provider.AttachVolume(ctx, id, writer) })
}

func (p crashProvider) DetachVolume(ctx context.Context, id string) error {
	return doErr(p.c, "detach volume", func() error { return p.Provider.DetachVolume(ctx, id) })
}

func (p crashProvider) DeleteVolume(ctx context.Context, id string) error {
	return doErr(p.c, "delete volume", func() error { return p.Provider.DeleteVolume(ctx, id) })
}

func (p crashProvider) CreateSnapshot(ctx context.Context, s providers.SnapshotSpec) (providers.Snapshot, error) {
	return do(p.c, "create snapshot", func() (providers.Snapshot, error) { return p.Provider.CreateSnapshot(ctx, s) })
}

func (p crashProvider) DeleteSnapshot(ctx context.Context, id string) error {
	return doErr(p.c, "delete snapshot", func() error { return p.Provider.DeleteSnapshot(ctx, id) })
}

func (p crashProvider) CreateInstance(ctx context.Context, s providers.InstanceSpec) (providers.Instance, error) {
	return do(p.c, "create instance", func() (providers.Instance, error) {
		i, err := p.Provider.CreateInstance(ctx, s)
		if err == nil {
			p.count.instances[i.ID] = true
		}
		return i, err
	})
}

func (p crashProvider) StopInstance(ctx context.Context, id string, force bool) error {
	return doErr(p.c, "stop instance", func() error { return p.Provider.StopInstance(ctx, id, force) })
}

func (p crashProvider) TerminateInstance(ctx context.Context, id string) error {
	return doErr(p.c, "terminate instance", func() error { return p.Provider.TerminateInstance(ctx, id) })
}

func (p crashProvider) DeleteImage(ctx context.Context, id string) error {
	return doErr(p.c, "delete image", func() error { return p.Provider.(providers.ImageRemover).DeleteImage(ctx, id) })
}

// arm puts a crash around all that the service works with.
func (w *world) arm(left int, count *made) *crash {
	c := &crash{left: left}
	w.db, w.catalog = crashDB{w.env.DB, c}, crashCatalog{w.env.Catalog, c}
	w.p = crashProvider{w.mem, c, count}
	w.restart()
	return c
}

// fast is a folder in memory: these tests write thousands of small transactions that nobody will miss.
func fast(t *testing.T) {
	t.Helper()
	if i, err := os.Stat("/dev/shm"); err == nil && i.IsDir() {
		t.Setenv("TMPDIR", "/dev/shm")
	}
}

// story is a launch from its start to its end, whatever dies on the way.
type story struct {
	name    string
	request wire.LaunchRequest
	shape   memprovider.Shape
	warm    bool
	console string // of a machine that does not come up
	wish    string // once it runs: revert, finalize; early: revert while it hydrates
	end     string
}

var stories = []story{
	{name: "test", request: wire.LaunchRequest{Kind: wire.LaunchTest}, wish: "revert", end: wire.LaunchReverted},
	{name: "test of a cloud", request: wire.LaunchRequest{Kind: wire.LaunchTest}, shape: memprovider.Cloud, wish: "revert", end: wire.LaunchReverted},
	{name: "warm test", request: wire.LaunchRequest{Kind: wire.LaunchTest}, warm: true, wish: "revert", end: wire.LaunchReverted},
	{name: "cutover", request: wire.LaunchRequest{Kind: wire.LaunchCutover}, wish: "finalize", end: wire.LaunchFinalized},
	{name: "cutover and revert", request: wire.LaunchRequest{Kind: wire.LaunchCutover}, wish: "revert", end: wire.LaunchReverted},
	{name: "cutover that fails", request: wire.LaunchRequest{Kind: wire.LaunchCutover}, console: "Gave up waiting for root file system device.\nALERT!  /dev/sda1 does not exist.  Dropping to a shell!\n(initramfs) ", end: wire.LaunchFailed},
	{name: "test that fails and is kept", request: wire.LaunchRequest{Kind: wire.LaunchTest, Keep: true}, console: "Kernel panic - not syncing: VFS", wish: "revert kept", end: wire.LaunchReverted},
	{name: "test that is given up", request: wire.LaunchRequest{Kind: wire.LaunchTest}, wish: "early", end: wire.LaunchReverted},
}

// play tells a story with a crash at one point; 0: with none. It returns how many points there were, and where it died.
func (s *story) play(t *testing.T, at int) (points int, where string) {
	t.Helper()
	w := newWorld(t, s.shape)
	if s.console != "" {
		w.console = func(providers.Instance) string { return s.console }
	}
	w.disks = w.disks[:1]
	w.agent.Replicate(w.disks...)
	count := &made{map[string]bool{}}
	if s.shape == memprovider.Cloud {
		w.makeWriter()
	}
	if s.warm {
		if err := w.s.SetTemplate(t.Context(), "db1", wire.LaunchTemplate{Warm: true}, nil); err != nil {
			t.Fatal(err)
		}
	}
	left := at
	if at == 0 {
		left = -1
	}
	c := w.arm(left, count)
	// survive restarts the master if it died.
	died := false
	survive := func() {
		if c.alive() != nil && !died {
			died = true
			where = c.where
			w.arm(-1, count)
		}
	}
	id, asked := "", false
	for n := 0; ; n++ {
		if n == 400 {
			b, _ := json.MarshalIndent(w.get(id), "", " ")
			t.Fatalf("crash %d (%s): it does not end: %s", at, where, b)
		}
		survive()
		if s.warm && n < 12 {
			// The machine's volumes are made first.
			_, _ = w.s.warmOnce(t.Context())
			w.turn()
			continue
		}
		if id == "" {
			if info, err := w.try(s.request); err == nil {
				id = info.ID
			} else if active, aerr := (&Service{Deps: Deps{DB: w.env.DB}}).activeLaunches(t.Context()); aerr == nil && len(active) == 1 {
				for id = range active {
				}
			} else if c.alive() == nil {
				t.Fatalf("crash %d (%s): start: %v", at, where, err)
			}
			continue
		}
		if s.warm {
			_, _ = w.s.warmOnce(t.Context())
		}
		w.turn()
		info := w.get(id)
		if info.State == s.end {
			survive()
			break
		}
		if isOver(info.State) && s.wish != "revert kept" {
			t.Fatalf("crash %d (%s): it is %s: %+v", at, where, info.State, info.Failure)
		}
		ready := info.State == wire.LaunchRunning && (s.wish == "finalize" || s.wish == "revert") ||
			info.State != wire.LaunchPending && s.wish == "early" || info.State == wire.LaunchFailed && s.wish == "revert kept"
		if ready && !asked {
			w.turn()
			survive()
			var err error
			if s.wish == "finalize" {
				_, err = w.s.Finalize(t.Context(), id, "ann")
			} else {
				_, err = w.s.Revert(t.Context(), id, "ann")
			}
			asked = err == nil
		}
	}
	for range 2 {
		w.turn()
	}
	s.check(t, w, id, count, fmt.Sprintf("crash %d (%s)", at, where))
	return c.seen, where
}

// check looks at what a story has left.
func (s *story) check(t *testing.T, w *world, id string, count *made, when string) {
	t.Helper()
	info := w.get(id)
	wantMachines := 1
	if s.wish == "early" {
		wantMachines = min(len(count.instances), 1) // when the wish itself was lost, it came late
	}
	if len(count.instances) != wantMachines {
		t.Errorf("%s: %d machines were made", when, len(count.instances))
	}
	want := map[providers.Kind]int{}
	if s.end == wire.LaunchFinalized {
		want[providers.KindInstance], want[providers.KindVolume] = 1, 1
	}
	if s.warm {
		want[providers.KindVolume]++
	}
	if s.shape == memprovider.Cloud {
		want[providers.KindInstance]++ // the writer
		want[providers.KindVolume]++
		want[providers.KindSnapshot]++
	}
	for kind, n := range w.resources() {
		if n != want[kind] {
			t.Errorf("%s: %d %ss are left, want %d", when, n, kind, want[kind])
		}
	}
	m := w.machine()
	held := s.end == wire.LaunchFinalized
	if (m.Hold != nil) != held {
		t.Errorf("%s: hold %+v", when, m.Hold)
	}
	if s.request.Kind == wire.LaunchCutover && !held && w.thawed != 1 {
		t.Errorf("%s: the source was thawed %d times", when, w.thawed)
	}
	jobs, err := w.env.Catalog.Jobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		if (j.State == catalog.JobQueued || j.State == catalog.JobLeased) && j.Kind != wire.JobProve {
			t.Errorf("%s: job %s is %s", when, j.Kind, j.State)
		}
	}
	if info.Restpoint != "" {
		// Nobody keeps it any more.
		if err := w.env.Catalog.RemoveRestpoint(t.Context(), info.Restpoint); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	if active, err := w.s.activeLaunches(t.Context()); err != nil || len(active) != 0 {
		t.Errorf("%s: %d launches are active: %v", when, len(active), err)
	}
}

// makeWriter makes the instance through which a cloud's volumes are written.
func (w *world) makeWriter() {
	w.t.Helper()
	meta := func(token string) providers.Meta {
		return providers.Meta{Token: token, Owner: providers.Owner{System: testSystem, Launch: "hydrator"}}
	}
	v, err := w.mem.CreateVolume(w.t.Context(), providers.VolumeSpec{Meta: meta("v"), Size: 1 << 20})
	if err != nil {
		w.t.Fatal(err)
	}
	for range 3 {
		_, _ = w.mem.Volume(w.t.Context(), v.ID)
	}
	s, err := w.mem.CreateSnapshot(w.t.Context(), providers.SnapshotSpec{Meta: meta("s"), Volume: v.ID})
	if err != nil {
		w.t.Fatal(err)
	}
	for range 3 {
		_, _ = w.mem.Snapshot(w.t.Context(), s.ID)
	}
	if err := w.mem.DeleteVolume(w.t.Context(), v.ID); err != nil {
		w.t.Fatal(err)
	}
	i, err := w.mem.CreateInstance(w.t.Context(), providers.InstanceSpec{Meta: meta("i"), Type: memprovider.SmallType, Architecture: providers.AMD64, Firmware: providers.BIOS,
		Disks: []providers.Disk{{From: providers.Source{Kind: providers.FromSnapshot, ID: s.ID}, Delete: true}}})
	if err != nil {
		w.t.Fatal(err)
	}
	for range 3 {
		_, _ = w.mem.Instance(w.t.Context(), i.ID)
	}
	w.writer = i.ID
}

// TestKilled kills the master in every story at every fourth point, or with OPENMIGRATE_EXHAUSTIVE at every one.
func TestKilled(t *testing.T) {
	fast(t)
	step := 4
	if os.Getenv("OPENMIGRATE_EXHAUSTIVE") != "" {
		step = 1
	}
	for i, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			points, _ := s.play(t, 0)
			t.Logf("%d points", points)
			for n := 1 + i%step; n <= points; n += step {
				s.play(t, n)
			}
		})
	}
}
