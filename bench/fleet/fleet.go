package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/system"
	"github.com/openmigrate/openmigrate/wire"
)

// fleetResult is what a fleet did to the master.
type fleetResult struct {
	Agents    int                        `json:"agents"`
	Enrolled  time.Duration              `json:"enrolled"`   // until all were
	FirstList time.Duration              `json:"first_list"` // of machines, after the master was started again
	For       time.Duration              `json:"for"`
	Reports   []time.Duration            `json:"-"`
	Commits   []time.Duration            `json:"-"`    // whole cycles
	Late      int                        `json:"late"` // cycles that had to wait for one that was not done
	Reads     map[string][]time.Duration `json:"-"`
	Errors    map[string]int             `json:"errors"` // what went wrong, and how often
	Lost      int                        `json:"lost"`   // most agents that were shown as disconnected
	Master    measure.Usage              `json:"master"` // of the span
	Simulator time.Duration              `json:"simulator"`
	Load      string                     `json:"load"` // of the machine at the end
}

// tally gathers what happens in the span that counts.
type tally struct {
	mu       sync.Mutex
	counting bool         // guarded by mu, as is all below
	r        *fleetResult //
}

func (t *tally) note(add func(r *fleetResult), what string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.r.Errors[fmt.Sprintf("%s: %.160s", what, err)]++
		return
	}
	if t.counting {
		add(t.r)
	}
}

func (t *tally) count(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counting = on
}

func (b *bench) fleet(ctx context.Context) (_ *fleetResult, err error) {
	s, err := b.master(ctx, "fleet")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r := &fleetResult{Agents: b.o.agents, Reads: map[string][]time.Duration{}, Errors: map[string]int{}}
	began := time.Now()
	agents, err := b.enrolAll(ctx, s, b.o.agents)
	defer func() {
		for _, a := range agents {
			if a != nil {
				a.Close()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	r.Enrolled = time.Since(began)
	b.Say("all %d agents are enrolled", len(agents))
	defer agents[0].tools.client.close()
	load, stop := context.WithCancel(ctx)
	defer stop()
	t := &tally{r: r}
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	for _, a := range agents {
		work.Go(func() {
			a.poll(load, b.o.every, func(took time.Duration, err error) {
				t.note(func(r *fleetResult) {
					if took > 0 {
						r.Reports = append(r.Reports, took)
					}
				}, "report", err)
			})
		})
	}
	work.Go(func() { b.commitAll(load, agents, t) })
	api, err := s.API()
	if err != nil {
		return nil, err
	}
	defer api.Close()
	work.Go(func() { b.readAll(load, api, agents, t) })
	work.Go(func() { watch(load, api, t) })
	if err := wait(ctx, b.o.warmUp); err != nil {
		return nil, err
	}
	b.Say("measuring for %v", b.o.span)
	before, err := s.MasterUsage()
	if err != nil {
		return nil, err
	}
	own, start := ownCPU(), time.Now()
	t.count(true)
	if err := wait(ctx, b.o.span); err != nil {
		return nil, err
	}
	t.count(false)
	r.For = time.Since(start)
	after, err := s.MasterUsage()
	if err != nil {
		return nil, err
	}
	r.Master, r.Simulator = measure.Usage{CPU: after.CPU - before.CPU, Peak: after.Peak}, ownCPU()-own
	r.Load = measure.ThisMachine(time.Now()).Load
	stop()
	work.Wait()
	return r, b.firstList(ctx, s, r)
}

// firstList starts the master again, and sees how long the first list of machines takes.
func (b *bench) firstList(ctx context.Context, s *system.System, r *fleetResult) error {
	if err := s.RestartMaster(ctx, system.Options{}); err != nil {
		return err
	}
	api, err := s.API()
	if err != nil {
		return err
	}
	defer api.Close()
	began := time.Now()
	var page wire.Page[wire.MachineInfo]
	if _, err := api.Do(ctx, http.MethodGet, wire.PathMachines+"?limit=100", nil, &page); err != nil {
		return fmt.Errorf("list machines after a start: %w", err)
	}
	r.FirstList = time.Since(began)
	if page.Total != r.Agents {
		return fmt.Errorf("list machines after a start: %d of %d", page.Total, r.Agents)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cyclesAtOnce bounds how many cycles run.
const cyclesAtOnce = 256

// commitAll begins cycles at the wanted rate, whether or not the master keeps up.
func (b *bench) commitAll(ctx context.Context, agents []*agent, t *tally) {
	tokens := make(chan struct{}, cyclesAtOnce)
	var cycles sync.WaitGroup
	defer cycles.Wait()
	rng := rand.New(rand.NewPCG(1, 2))
	each(ctx, b.o.commits, func(n int) {
		select {
		case tokens <- struct{}{}:
		default:
			t.note(func(r *fleetResult) { r.Late++ }, "", nil)
			return
		}
		a, fresh := agents[n%len(agents)], rng.Float64() < b.o.fresh
		cycles.Go(func() {
			defer func() { <-tokens }()
			began := time.Now()
			err := a.cycle(ctx, fresh)
			if ctx.Err() != nil {
				return
			}
			t.note(func(r *fleetResult) { r.Commits = append(r.Commits, time.Since(began)) }, "cycle", err)
		})
	})
}

// each calls fn so many times a second until ctx ends, catching up when it was late.
func each(ctx context.Context, rate float64, fn func(n int)) {
	began := time.Now()
	for n := 0; ; n++ {
		due := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		if wait(ctx, time.Until(due)) != nil {
			return
		}
		fn(n)
	}
}

// readAll reads what the dashboard and scripts read, at the wanted rate, a few at once.
func (b *bench) readAll(ctx context.Context, api *apiclient.Client, agents []*agent, t *tally) {
	var reads sync.WaitGroup
	defer reads.Wait()
	each(ctx, b.o.reads, func(n int) {
		a := agents[(n*7919)%len(agents)]
		paths := [][2]string{
			{"summary", wire.PathSummary},
			{"machines by RPO", wire.PathMachines + "?limit=100&sort=-rpo"},
			{"machines by name", wire.PathMachines + "?limit=100&search=" + a.name},
			{"machines lagging", wire.PathMachines + "?limit=100&replication=lagging,stalled"},
			{"one machine", wire.Path(wire.PathMachine, a.id)},
			{"restpoints", wire.Path(wire.PathRestpointsOf, a.id)},
			{"jobs", wire.PathJobs},
		}
		p := paths[n%len(paths)]
		reads.Go(func() {
			began := time.Now()
			_, err := api.Fetch(ctx, p[1])
			took := time.Since(began)
			if ctx.Err() != nil {
				return
			}
			t.note(func(r *fleetResult) { r.Reads[p[0]] = append(r.Reads[p[0]], took) }, p[0], err)
		})
	})
}

// watch looks for agents that the master takes for gone.
func watch(ctx context.Context, api *apiclient.Client, t *tally) {
	for wait(ctx, 5*time.Second) == nil {
		var sum wire.FleetSummary
		_, err := api.Do(ctx, http.MethodGet, wire.PathSummary, nil, &sum)
		if ctx.Err() != nil {
			return
		}
		t.note(func(r *fleetResult) { r.Lost = max(r.Lost, sum.Replication["disconnected"]) }, "summary", err)
	}
}

func ownCPU() time.Duration {
	u, err := measure.Of(os.Getpid())
	if err != nil {
		return 0
	}
	return u.CPU
}
