package launch

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/master/catalog"
	"github.com/openmigrate/openmigrate/master/catalog/catalogtest"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/providers/memprovider"
	"github.com/openmigrate/openmigrate/wire"
)

const testSystem = "test-system"

// world is a master with one machine, a provider in memory, and a node that does what it is asked. Nothing moves by itself: turn moves all by one
// look, and the clock by a second.
type world struct {
	t       *testing.T
	env     *catalogtest.Env
	agent   *catalogtest.Agent
	disks   []catalogtest.Disk
	mem     *memprovider.Provider
	p       providers.Provider // as the service sees it; mem, or what is around it
	db      store.Store
	catalog Catalog
	s       *Service
	workers map[string]*worker
	broken  map[string]error
	writer  string

	console  func(providers.Instance) string
	jobs     map[string]int                        // done by the node, by kind
	answer   func(*wire.Job) (*wire.Failure, bool) // of the node; false: the job stays leased
	replies  map[string]wire.Progress              // by kind
	data     []int64                               // that the restpoint's disks hold, as the node measures
	agentOff bool                                  // the agent does nothing with a hold
	holdSaid map[string]string                     // by hold: the last state that the agent reported
	thawed   int                                   // times that the agent let go of a hold
}

const goodBoot = "Linux version 6.1.0\r\n[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mmulti-user.target\x1b[0m - Multi-User System.\r\n\r\nDebian GNU/Linux 12 db1 ttyS0\r\n\r\ndb1 login: "

func inventory() *wire.Inventory {
	return &wire.Inventory{
		Version: 1, Hostname: "db1", Kernel: wire.Kernel{Arch: "amd64"}, CPU: wire.CPU{Count: 1}, MemoryBytes: 900 << 20, Firmware: wire.Firmware{Type: "bios"},
		Devices: []wire.BlockDevice{
			{ID: "disk-0", Name: "sda", Type: "disk", Table: &wire.PartitionTable{Scheme: "mbr", Partitions: []wire.Partition{{Number: 1, Bootable: true, Type: "83", Content: &wire.Content{Type: "ext4"}}}}},
			{ID: "disk-1", Name: "sdb", Type: "disk", Content: &wire.Content{Type: "ext4"}},
		},
		Filesystems: []wire.Filesystem{{Device: "sda1", Mountpoint: "/", Type: "ext4"}},
	}
}

func newWorld(t *testing.T, shape memprovider.Shape) *world {
	t.Helper()
	w := &world{t: t, env: catalogtest.New(t, nil), jobs: map[string]int{}, replies: map[string]wire.Progress{}, holdSaid: map[string]string{}}
	w.console = func(providers.Instance) string { return goodBoot }
	w.mem = memprovider.New(&memprovider.Options{Shape: shape, Dir: t.TempDir(), Polls: 1, Clock: w.env.Clock,
		Boot: func(i providers.Instance) string { return w.console(i) }})
	w.p, w.db, w.catalog = w.mem, w.env.DB, w.env.Catalog
	w.agent = w.env.NewAgent("db1")
	w.hello(inventory())
	w.disks = []catalogtest.Disk{{ID: "disk-0", Data: []byte("root" + string(make([]byte, 4092)))}, {ID: "disk-1", Data: make([]byte, 8192)}}
	w.agent.Replicate(w.disks...)
	w.restart()
	return w
}

var generation uint64

func (w *world) hello(inv *wire.Inventory) {
	w.t.Helper()
	generation++
	_, err := w.env.Catalog.Hello(w.t.Context(), w.agent.Machine.ID, wire.Hello{Generation: generation, Fingerprint: "host of db1", Inventory: inv})
	if err != nil {
		w.t.Fatal(err)
	}
}

// restart makes a new service over what the old one left.
func (w *world) restart() {
	w.t.Helper()
	s, err := New(Deps{
		Catalog: w.catalog, DB: w.db, Providers: map[string]providers.Provider{"mem": w.p}, Broken: w.broken, Writers: map[string]string{"mem": w.writer}, System: testSystem, URL: "https://master", CA: []byte{1},
		Clock: w.env.Clock, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Pause: time.Second,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.s, w.workers = s, map[string]*worker{}
}

func (w *world) start(r wire.LaunchRequest) wire.LaunchInfo {
	w.t.Helper()
	info, err := w.try(r)
	if err != nil {
		w.t.Fatalf("start: %v", err)
	}
	return info
}

func (w *world) try(r wire.LaunchRequest) (wire.LaunchInfo, error) {
	if r.Machine == "" {
		r.Machine = "db1"
	}
	return w.s.Start(w.t.Context(), catalog.DefaultProject, r, "ann")
}

// turn lets everybody do one thing.
func (w *world) turn() {
	w.t.Helper()
	w.look()
	w.node()
	w.source()
	w.env.Clock.Advance(time.Second)
}

// look lets every launch be looked at once.
func (w *world) look() {
	w.t.Helper()
	ids, err := w.s.activeLaunches(w.t.Context())
	if err != nil {
		return // the service is dead
	}
	for id := range ids {
		if w.workers[id] == nil {
			w.workers[id] = &worker{wake: make(chan struct{}, 1)}
		}
		w.s.advance(w.t.Context(), id, w.workers[id])
	}
}

// until turns until the launch is in one of the states.
func (w *world) until(id string, states ...string) wire.LaunchInfo {
	w.t.Helper()
	for range 200 {
		info := w.get(id)
		for _, s := range states {
			if info.State == s {
				return info
			}
		}
		w.turn()
	}
	info := w.get(id)
	b, _ := json.MarshalIndent(info, "", " ")
	w.t.Fatalf("launch is %s, want %v: %s", info.State, states, b)
	return info
}

func (w *world) get(id string) wire.LaunchInfo {
	w.t.Helper()
	l, err := (&Service{Deps: Deps{DB: w.env.DB}}).row(context.Background(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.s.info(w.t.Context(), &l)
}

// node leases whatever there is and does it.
func (w *world) node() {
	w.t.Helper()
	req := wire.LeaseRequest{Kinds: []string{wire.JobHydrate, wire.JobInspect, wire.JobMeasure, wire.JobConvert, wire.JobServe}, Providers: []string{"mem"}}
	for {
		j, err := w.env.Catalog.LeaseJob(w.t.Context(), "node", req)
		if err != nil {
			w.t.Fatal(err)
		}
		if j == nil {
			return
		}
		w.jobs[j.Kind]++
		if j.Kind == wire.JobServe && j.Convert != nil {
			if err := w.env.Catalog.ReportJob(w.t.Context(), "node", j.ID, json.RawMessage(`{"of":"serve"}`)); err != nil {
				w.t.Fatal(err)
			}
		}
		if p, ok := w.replies[j.Kind]; ok {
			if _, err := w.env.Catalog.RenewJob(w.t.Context(), "node", j.ID, p); err != nil {
				w.t.Fatal(err)
			}
		}
		var f *wire.Failure
		if w.answer != nil {
			failure, ends := w.answer(j)
			if !ends {
				continue
			}
			f = failure
		}
		if f != nil {
			err = w.env.Catalog.FailJob(w.t.Context(), "node", j.ID, *f)
		} else {
			result := wire.JobResult{Bytes: 1}
			if j.Kind == wire.JobMeasure {
				result.Data = w.data
			}
			if j.Kind == wire.JobConvert || j.Kind == wire.JobInspect {
				result.Report = json.RawMessage(fmt.Sprintf(`{"of":%q}`, j.Kind))
			}
			err = w.env.Catalog.CompleteJob(w.t.Context(), "node", j.ID, result)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if f != nil {
			return // and rests
		}
	}
}

// source does what the assignment of the machine says of a hold.
func (w *world) source() {
	w.t.Helper()
	if w.agentOff {
		return
	}
	ctx := w.t.Context()
	m, err := w.env.Catalog.Machine(ctx, w.agent.Machine.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	say := func(h wire.HoldReport) {
		w.holdSaid[h.ID] = h.State
		if err := w.env.Catalog.Report(ctx, m.ID, wire.Report{State: "idle", Hold: &h}); err != nil {
			w.t.Fatal(err)
		}
	}
	switch {
	case m.Hold == nil:
		for id, state := range w.holdSaid {
			if state == wire.HoldFrozen || state == wire.HoldStopping {
				w.thawed++
				say(wire.HoldReport{ID: id, State: wire.HoldReleased})
			}
		}
	case w.holdSaid[m.Hold.ID] == "":
		say(wire.HoldReport{ID: m.Hold.ID, State: wire.HoldStopping})
	case w.holdSaid[m.Hold.ID] == wire.HoldStopping:
		w.disks[0].Data = append([]byte(nil), w.disks[0].Data...)
		w.disks[0].Data[100]++
		r, _ := w.agent.Replicate(w.disks...)
		say(wire.HoldReport{ID: m.Hold.ID, State: wire.HoldFrozen, Restpoint: r})
	case m.Hold.Live && m.Hold.StopSource && w.holdSaid[m.Hold.ID] == wire.HoldFrozen:
		say(wire.HoldReport{ID: m.Hold.ID, State: wire.HoldOff})
	}
}

// resources are what is at the provider, by kind.
func (w *world) resources() map[providers.Kind]int {
	w.t.Helper()
	all, err := w.mem.List(w.t.Context(), testSystem)
	if err != nil {
		w.t.Fatal(err)
	}
	n := map[providers.Kind]int{}
	for _, x := range all {
		n[x.Kind]++
	}
	return n
}

func (w *world) machine() catalog.Machine {
	w.t.Helper()
	m, err := w.env.Catalog.Machine(w.t.Context(), w.agent.Machine.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) life() string {
	w.t.Helper()
	m := w.machine()
	l, err := w.s.Life(w.t.Context(), []catalog.Machine{m})
	if err != nil {
		w.t.Fatal(err)
	}
	return l[m.ID].State
}
