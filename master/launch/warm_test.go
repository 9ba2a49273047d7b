package launch

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/wire"
)

// warmUp looks after standing volumes and lets the node work, a few times.
func (w *world) warmUp() {
	w.t.Helper()
	for range 10 {
		if _, err := w.s.warmOnce(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.turn()
	}
}

func (w *world) standing() warm {
	w.t.Helper()
	v, err := w.s.warmOf(w.t.Context(), w.machine().ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func TestWarm(t *testing.T) {
	fast(t)
	for name, shape := range map[string]memprovider.Shape{"host": memprovider.Host, "cloud": memprovider.Cloud} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, shape)
			extra := 0
			if shape == memprovider.Cloud {
				w.makeWriter()
				w.restart()
				extra = 1 // the writer's
			}
			set := func(warm bool) {
				t.Helper()
				if err := w.s.SetTemplate(t.Context(), "db1", wire.LaunchTemplate{Warm: warm}, nil); err != nil {
					t.Fatal(err)
				}
			}
			set(true)
			w.warmUp()
			if v := w.standing(); v.Restpoint != w.machine().LastRestpoint || w.jobs[wire.JobHydrate] != 2 || w.resources()[providers.KindVolume] != 2+extra {
				t.Fatalf("%+v after %d jobs", v, w.jobs[wire.JobHydrate])
			}
			// Each new restpoint is applied.
			w.disks[0].Data = append([]byte(nil), w.disks[0].Data...)
			w.disks[0].Data[7]++
			w.agent.Replicate(w.disks...)
			w.warmUp()
			if v := w.standing(); v.Restpoint != w.machine().LastRestpoint || w.jobs[wire.JobHydrate] != 4 {
				t.Errorf("%+v after %d jobs", v, w.jobs[wire.JobHydrate])
			}
			// A launch clones them, and gives them back.
			l := w.start(wire.LaunchRequest{Kind: wire.LaunchTest})
			info := w.until(l.ID, wire.LaunchRunning)
			if v := w.standing(); v.User != "" || w.resources()[providers.KindVolume] < 4+extra {
				t.Errorf("%+v, %v", v, w.resources())
			}
			for _, id := range info.Volumes {
				for _, d := range w.standing().Disks {
					if d.Volume == id {
						t.Errorf("the launch has standing volume %s itself", id)
					}
				}
			}
			if _, err := w.s.Revert(t.Context(), l.ID, "ann"); err != nil {
				t.Fatal(err)
			}
			w.until(l.ID, wire.LaunchReverted)
			if n := w.resources()[providers.KindVolume]; n != 2+extra {
				t.Errorf("%d volumes are left, want those that stand", n)
			}
			// A disk that has grown gets a new volume.
			w.disks[1].Data = make([]byte, 3*catalogChunk)
			w.agent.Replicate(w.disks...)
			w.warmUp()
			if v := w.standing(); v.Restpoint != w.machine().LastRestpoint || len(v.Disks) != 2 || w.resources()[providers.KindVolume] != 2+extra {
				t.Errorf("%+v, %v", v, w.resources())
			}
			set(false)
			w.warmUp()
			if v := w.standing(); v.Provider != "" || w.resources()[providers.KindVolume] != extra {
				t.Errorf("%+v, %v", v, w.resources())
			}
		})
	}
}

const catalogChunk = 64 << 10

// lazyProvider starts machines on what is served.
type lazyProvider struct {
	*memprovider.Provider
	lazy map[string]int // fills asked for, of volumes that are lazy
	slow bool           // no volume is ever filled
}

func (p *lazyProvider) Capabilities(ctx context.Context) (providers.Capabilities, error) {
	c, err := p.Provider.Capabilities(ctx)
	c.Lazy = true
	return c, err
}

func (p *lazyProvider) CreateLazyVolume(ctx context.Context, spec providers.VolumeSpec, _ providers.View) (providers.Volume, error) {
	v, err := p.CreateVolume(ctx, spec)
	if _, known := p.lazy[v.ID]; err == nil && !known {
		p.lazy[v.ID] = 0
	}
	return v, err
}

func (p *lazyProvider) Volume(ctx context.Context, id string) (providers.Volume, error) {
	v, err := p.Provider.Volume(ctx, id)
	n, known := p.lazy[id]
	v.Lazy = known && (n < 3 || p.slow)
	return v, err
}

func (p *lazyProvider) FillVolume(_ context.Context, id string) error {
	p.lazy[id]++
	return nil
}

func TestInstant(t *testing.T) {
	fast(t)
	request := wire.LaunchRequest{Kind: wire.LaunchTest, Template: &wire.LaunchTemplate{Instant: true}}
	prepared := func() *world {
		w := newWorld(t, memprovider.Host)
		w.p = &lazyProvider{Provider: w.mem, lazy: map[string]int{}}
		w.replies[wire.JobServe] = wire.Progress{Views: []wire.View{{Socket: "/run/a", Export: "0"}, {Socket: "/run/a", Export: "1"}}}
		w.answer = func(j *wire.Job) (*wire.Failure, bool) { return nil, j.Kind != wire.JobServe }
		w.restart()
		return w
	}
	w := prepared()
	l := w.start(request)
	w.until(l.ID, wire.LaunchRunning)
	j, err := w.env.Catalog.Job(t.Context(), l.ID+"-serve")
	if err != nil || w.jobs[wire.JobHydrate] != 0 || w.jobs[wire.JobConvert] != 0 {
		t.Errorf("jobs %v: %v", w.jobs, err)
	}
	if info, err := w.s.Get(t.Context(), l.ID); err != nil || string(info.Conversion) != `{"of":"serve"}` {
		t.Errorf("the report of the conversion is %s: %v", info.Conversion, err)
	}
	for range 10 {
		w.turn()
	}
	if j, err = w.env.Catalog.Job(t.Context(), l.ID+"-serve"); err != nil || j.State != catalog.JobCancelled {
		t.Errorf("serve job is %s: %v", j.State, err)
	}
	// A node that stops to serve what the machine still needs ends the launch.
	w = prepared()
	w.console = func(providers.Instance) string { return "Booting...\n" }
	w.p.(*lazyProvider).lazy = map[string]int{}
	l = w.start(request)
	w.until(l.ID, wire.LaunchStarting, wire.LaunchChecking)
	if err := w.env.Catalog.FailJob(t.Context(), "node", l.ID+"-serve", wire.Failure{Code: wire.CodeInternal, Message: "killed"}); err != nil {
		t.Fatal(err)
	}
	info := w.until(l.ID, wire.LaunchFailed)
	if len(w.resources()) != 0 {
		t.Errorf("%+v, left %v", info.Failure, w.resources())
	}
}

// TestInstantNodeDies: a machine that runs on what a node shows ends when that node is gone before all was copied, whether another one takes the job or none;
// when all was copied, it does not matter any more.
func TestInstantNodeDies(t *testing.T) {
	fast(t)
	for name, tt := range map[string]struct {
		slow bool
		die  func(w *world, job string) error
	}{
		"started again": {true, func(w *world, _ string) error { return w.env.Catalog.NodeStarted(t.Context(), "node") }},
		"gone": {true, func(w *world, _ string) error {
			w.answer = nil // and nobody else takes it
			w.env.Pass(2 * time.Minute)
			w.env.Tick()
			return nil
		}},
		"failed": {true, func(w *world, job string) error {
			return w.env.Catalog.FailJob(t.Context(), "node", job, wire.Failure{Code: wire.CodeRefused, Message: "no more"})
		}},
		"cancelled": {true, func(w *world, job string) error { return w.env.Catalog.CancelJob(t.Context(), job) }},
		"all there": {false, func(w *world, job string) error { return w.env.Catalog.CancelJob(t.Context(), job) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, memprovider.Host)
			w.p = &lazyProvider{Provider: w.mem, lazy: map[string]int{}, slow: true}
			w.replies[wire.JobServe] = wire.Progress{Views: []wire.View{{Socket: "/run/a", Export: "0"}, {Socket: "/run/a", Export: "1"}}}
			w.answer = func(j *wire.Job) (*wire.Failure, bool) { return nil, j.Kind != wire.JobServe }
			w.restart()
			l := w.start(wire.LaunchRequest{Kind: wire.LaunchTest, Template: &wire.LaunchTemplate{Instant: true}})
			w.until(l.ID, wire.LaunchRunning)
			w.p.(*lazyProvider).slow = tt.slow
			for _, id := range w.get(l.ID).Volumes {
				w.p.(*lazyProvider).lazy[id] = 3
			}
			if err := tt.die(w, l.ID+"-serve"); err != nil {
				t.Fatal(err)
			}
			if !tt.slow {
				for range 5 {
					w.turn()
				}
				if info := w.get(l.ID); info.State != wire.LaunchRunning || !strings.Contains(info.Log[len(info.Log)-1].Message, "all data is there") {
					t.Errorf("%s: %+v", info.State, info.Log)
				}
				return
			}
			info := w.until(l.ID, wire.LaunchFailed)
			if f := info.Failure; f == nil || f.Step != wire.LaunchRunning || !strings.Contains(f.Reason, "the node stopped to show disks") || !strings.Contains(f.Cause, "I/O errors") {
				t.Errorf("%+v", f)
			}
			if left := w.resources(); len(left) != 0 {
				t.Errorf("left %v", left)
			}
			if life := w.life(); life != wire.LifeReadyForCutover { // it had come up
				t.Errorf("life is %s", life)
			}
		})
	}
}

// TestRun drives launches by the service's own loops, stops it in the middle, and lets another go on.
func TestRun(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	begin := func() (stop func()) {
		var err error
		w.s, err = New(Deps{Catalog: w.env.Catalog, DB: w.env.DB, Providers: map[string]providers.Provider{"mem": w.mem}, System: testSystem, Clock: w.env.Clock,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Pause: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.s.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	wait := func(id string, states ...string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			info, err := w.s.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(states, info.State) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("launch is %s, want %s: %+v", info.State, states, info.Failure)
			}
			w.node()
		}
	}
	stop := begin()
	var ids []string
	for range 3 {
		ids = append(ids, w.start(wire.LaunchRequest{Kind: wire.LaunchTest}).ID)
	}
	wait(ids[0], wire.LaunchConverting, wire.LaunchStarting, wire.LaunchChecking, wire.LaunchRunning) // it does not wait for us
	stop()
	stop = begin()
	for _, id := range ids {
		wait(id, wire.LaunchRunning)
		if _, err := w.s.Revert(t.Context(), id, "ann"); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		wait(id, wire.LaunchReverted)
	}
	// One that failed and was kept comes back to be reverted.
	w.console = func(providers.Instance) string { return "Kernel panic - not syncing: no init" }
	kept := w.start(wire.LaunchRequest{Kind: wire.LaunchTest, Keep: true}).ID
	wait(kept, wire.LaunchFailed)
	if w.resources()[providers.KindInstance] != 1 {
		t.Errorf("kept %v", w.resources())
	}
	if _, err := w.s.Revert(t.Context(), kept, "ann"); err != nil {
		t.Fatal(err)
	}
	wait(kept, wire.LaunchReverted)
	stop()
	if left := w.resources(); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

// TestWarmShown: people see which restpoint the standing volumes hold, how large they are, what is being applied, and why they do not get on. A machine whose volumes cannot
// be kept keeps no other waiting.
func TestWarmShown(t *testing.T) {
	fast(t)
	w := newWorld(t, memprovider.Host)
	shown := func() *wire.WarmInfo {
		t.Helper()
		m := w.machine()
		l, err := w.s.Life(t.Context(), []catalog.Machine{m})
		if err != nil {
			t.Fatal(err)
		}
		return l[m.ID].Warm
	}
	if i := shown(); i != nil {
		t.Errorf("%+v", i)
	}
	if err := w.s.SetTemplate(t.Context(), "db1", wire.LaunchTemplate{Warm: true}, nil); err != nil {
		t.Fatal(err)
	}
	w.data = []int64{4096, 0}
	w.answer = func(j *wire.Job) (*wire.Failure, bool) { return nil, j.Kind != wire.JobHydrate }
	w.replies[wire.JobHydrate] = wire.Progress{Total: 4096, Done: 1024}
	w.warmUp()
	first := w.machine().LastRestpoint
	if i := shown(); i == nil || i.State != wire.WarmMaking || i.Applying != first || i.Restpoint != "" || i.Volumes != 2 || i.Size != 4096+8192 || i.Progress == nil || i.Progress.Done != 2048 {
		t.Errorf("%+v", i)
	}
	if v, err := w.mem.Volume(t.Context(), w.standing().Disks[0].Volume); err != nil || w.standing().Disks[0].Filled != 4096 {
		t.Errorf("%+v, %v", v, err)
	}
	for _, d := range w.standing().Disks {
		v := w.standing()
		if err := w.env.Catalog.CompleteJob(t.Context(), "node", v.job(v.find(d.ID, d.Size)), wire.JobResult{}); err != nil {
			t.Fatal(err)
		}
	}
	w.answer = nil
	w.warmUp()
	if i := shown(); i.State != wire.WarmCurrent || i.Restpoint != first || i.Instant == nil || i.Applying != "" || i.Progress != nil || i.Problem != "" {
		t.Errorf("%+v", i)
	}
	w.disks[0].Data = append([]byte(nil), w.disks[0].Data...)
	w.disks[0].Data[9]++
	w.agent.Replicate(w.disks...)
	if i := shown(); i.State != wire.WarmBehind || i.Restpoint != first {
		t.Errorf("%+v", i)
	}
	l := w.start(wire.LaunchRequest{Kind: wire.LaunchTest})
	w.answer = func(j *wire.Job) (*wire.Failure, bool) { return nil, j.Kind != wire.JobHydrate }
	w.until(l.ID, wire.LaunchHydrating)
	w.turn()
	if i := shown(); i.State != wire.WarmInUse || i.Launch != l.ID {
		t.Errorf("%+v", i)
	}
	if _, err := w.s.Revert(t.Context(), l.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	w.until(l.ID, wire.LaunchReverted)
	if i := shown(); i.State != wire.WarmResting {
		t.Errorf("%+v", i)
	}

	// The provider has no such zone any more.
	w.answer = nil
	w.env.Pass(time.Hour)
	if err := w.s.SetTemplate(t.Context(), "db1", wire.LaunchTemplate{Warm: true, Zone: "north"}, nil); err != nil {
		t.Fatal(err)
	}
	other := w.env.NewAgent("other")
	other.Replicate(w.disks...)
	generation++
	if _, err := w.env.Catalog.Hello(t.Context(), other.Machine.ID, wire.Hello{Generation: generation, Fingerprint: "host of other", Inventory: inventory()}); err != nil {
		t.Fatal(err)
	}
	if err := w.s.SetTemplate(t.Context(), "other", wire.LaunchTemplate{Warm: true}, nil); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if _, err := w.s.warmOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.turn()
	}
	if i := shown(); i.State != wire.WarmBehind || !strings.Contains(i.Problem, "no zone") {
		t.Errorf("%+v", i)
	}
	if v, err := w.s.warmOf(t.Context(), other.Machine.ID); err != nil || v.Restpoint == "" {
		t.Errorf("the other machine: %+v, %v", v, err)
	}
}
