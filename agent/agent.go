// Package agent is the program on a source server: it proves who it is, asks the master what to do, and makes restpoints.
//
//	enrol once ─► hello ─► ┌ poll ──► assignment ┐
//	                       │ renew ─► certificate ├─► loop: wait until due ─► cycle.Run ─► report
//	                       └ (goroutines)         ┘
//
// Invariants. It dials out only: to the master, whose CA it has pinned since enrolment, and to the staging hosts that the assignment
// names. One process at a time uses a state directory. Each Hello shows a generation that no Hello has shown
// before, also when an answer was lost. It keeps to the assignment that it holds while the master is away. Of what the
// master asks it replicates only whole disks of this host, or what the operator named. Keys and tokens are in no log and no error.
//
// Run belongs to one goroutine; everything that it starts has ended when it returns.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/inventory"
	"github.com/openmigrate/openmigrate/agent/state"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/internal/enrol"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/wire"
)

// Options say how an agent runs. StateDir is needed; Token and MasterURL at the first start.
type Options struct {
	MasterURL string // empty: the one in the token, or of the identity
	Token     string // enrolment token; not looked at once the agent has an identity
	StateDir  string
	Name      string                                         // wished name at enrolment; empty: the host's
	Disks     []string                                       // devices or image files in place of every disk that is found
	Progress  func(wire.Progress)                            // is told about twice a second during a cycle; may be nil
	Done      func(*cycle.Result)                            // is told of each restpoint; may be nil
	Log       *slog.Logger                                   // nil: slog.Default
	Clock     clock.Clock                                    // nil: the system's
	Inventory func(context.Context) (*wire.Inventory, error) // nil: this host's

	IncludeFree bool // send what file systems say is free, too
	WholeChunks bool // send whole chunks where a few blocks were written

	Moved     bool   // the host is the one that the identity is of, although it looks like another: new hardware
	AdoptCopy bool   // this host is a copy: enrol it anew with Token, and move the state that was copied aside
	CopyMark  string // where a launch marks a copy; empty: wire.CopyMarkPath

	CutoverHooks string       // directory of what stops and starts services for a cutover; empty: /etc/openmigrate/cutover.d
	PowerOff     func() error // turns the host off; nil: PowerOff

	openTracker func(anew string) (track.Tracker, error) // for tests; nil: the best there is
}

// Memory. The pools of a cycle hold about 135 MiB that the collector need not look into; little else is alive.
const (
	memoryLimit = 192 << 20 // bytes; soft: the collector works harder near it
	gcPercent   = 40
)

// agent is a running agent.
type agent struct {
	opts   Options
	log    *slog.Logger
	clock  clock.Clock
	logTo  slog.Handler // of log, past the gate
	gate   *gate
	dir    gatedDir
	member *enrol.Member
	client *wire.Client // the member's
	status *statusFile

	held *holdRecord     // of the loop's goroutine; nil: none
	told wire.HoldReport // that the master heard last from this process; of the loop's goroutine

	moved bool // the next hello says that the identity has another host; of the goroutine of Run
	known bool // the master has answered this process; of the goroutine of Run

	snaps   *snapshots // nil until they are asked for; of the loop's goroutine
	track   *tracking  // of the loop's goroutine
	buffers *cycle.Buffers
	blocks  *state.Blocks // nil: patches are not wanted
	news    chan struct{} // one token: the assignment changed
	rehello chan struct{} // one token: the master does not know this process

	mu         sync.Mutex
	assignment *wire.Assignment // guarded by mu; nil: none yet
}

// Run is the agent until ctx ends, which is no error. Errors to test for: state.ErrLocked, wire.ErrUntrusted, and the
// master's CodeTokenUsed, CodeTokenExpired, CodeUnauthorized and CodeRevoked. Anything that may pass is waited for.
func Run(ctx context.Context, opts Options) error { return quiet(ctx, run(ctx, opts)) }

// quiet makes a wish to stop no error.
func quiet(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func run(ctx context.Context, opts Options) (err error) {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	a := &agent{opts: opts, log: opts.Log, clock: opts.Clock, buffers: cycle.NewBuffers(), news: make(chan struct{}, 1),
		rehello: make(chan struct{}, 1)}
	if a.log == nil {
		a.log = slog.Default()
	}
	a.gate, a.logTo = new(gate), a.log.Handler()
	a.log = slog.New(gatedLog{a.logTo, a.gate})
	if a.opts.CutoverHooks == "" {
		a.opts.CutoverHooks = cutoverDir
	}
	if a.opts.CopyMark == "" {
		a.opts.CopyMark = wire.CopyMarkPath
	}
	if a.opts.PowerOff == nil {
		a.opts.PowerOff = PowerOff
	}
	if a.clock == nil {
		a.clock = clock.Real{}
	}
	if a.opts.Inventory == nil {
		a.opts.Inventory = func(ctx context.Context) (*wire.Inventory, error) { return inventory.Collect(ctx, inventory.Options{}) }
	}
	dir, err := state.Open(opts.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	a.dir = gatedDir{dir, a.gate}
	if !opts.WholeChunks {
		a.blocks = state.NewBlocks(dir, 0)
		defer a.blocks.Close()
	}
	a.status = newStatusFile(dir, a.clock, a.gate)
	defer func() { a.status.stopped(quiet(ctx, err)) }()
	inv, err := a.opts.Inventory(ctx)
	if err != nil {
		return err
	}
	if err := a.original(ctx, inv); err != nil {
		return err
	}
	if err := a.join(ctx, inv); err != nil {
		return err
	}
	defer a.client.Close()
	a.track = &tracking{open: opts.openTracker, clock: a.clock, log: a.log}
	if a.track.open == nil {
		a.track.open = a.openTracker
	}
	defer func() { err = errors.Join(err, a.track.close()) }()
	return a.work(ctx)
}

// join finds the agent's identity, or enrols.
func (a *agent) join(ctx context.Context, inv *wire.Inventory) error {
	o := enrol.Options{Dir: a.dir, Kind: enrol.Agent, MasterURL: a.opts.MasterURL, Token: a.opts.Token, Name: a.opts.Name,
		Fingerprint: inv.Fingerprint, Inventory: inv, Log: a.log, Clock: a.clock, Waiting: a.status.waiting}
	if o.Name == "" {
		o.Name = inv.Hostname
	}
	var err error
	if a.member, err = enrol.Join(ctx, o); err != nil {
		return err
	}
	a.client = a.member.Client()
	a.status.identity(a.member.Identity(), a.member.URL())
	return nil
}

// work keeps the helpers running beside the loop, and joins them.
func (a *agent) work(ctx context.Context) error {
	if err := a.loadAssignment(); err != nil {
		a.log.Warn("the last assignment cannot be read; waiting for a new one", "error", err)
	}
	if err := a.recoverHold(ctx); err != nil {
		return err
	}
	if a.held != nil { // whether that is released is for the master to say, not for what it said last
		a.mu.Lock()
		a.assignment = nil
		a.mu.Unlock()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	hello, err := a.hello(ctx)
	if err != nil {
		cancel(nil)
		return err
	}
	var wg sync.WaitGroup
	for _, helper := range []func(context.Context) error{a.poll, a.member.Renewals} {
		wg.Go(func() {
			if err := helper(ctx); err != nil {
				cancel(err)
			}
		})
	}
	a.removeOldSnapshots(ctx)
	err = a.loop(ctx, hello.LastRestpoint)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(nil)
	wg.Wait()
	return err
}

// hello opens the conversation, as often as it takes. Every try has a generation of its own: the master may have heard one
// whose answer was lost.
func (a *agent) hello(ctx context.Context) (*wire.HelloResponse, error) {
	for b := enrol.NewBackoff(time.Second, 30*time.Second); ; {
		inv, err := a.opts.Inventory(ctx)
		if err != nil {
			return nil, err
		}
		generation, err := a.dir.NextGeneration()
		if err != nil {
			return nil, err
		}
		out, err := a.client.Hello(ctx, wire.PathAgentHello, &wire.Hello{Generation: generation, Fingerprint: inv.Fingerprint,
			Moved: a.moved, Version: version.String(), Inventory: inv})
		if err == nil {
			a.known = true
			a.here(inv.Fingerprint)
			a.log.Info("connected", "machine", a.member.Identity().Name, "last_restpoint", out.LastRestpoint)
			return out, nil
		}
		if enrol.Final(err) || wire.HasCode(err, wire.CodeNotFound) || errors.Is(err, wire.ErrUntrusted) && !a.known {
			return nil, fmt.Errorf("say hello to the master: %w", err)
		}
		if wire.HasCode(err, wire.CodeUnauthorized) { // most likely the certificate ran out while the agent was off
			if rerr := a.member.Renew(ctx); rerr != nil {
				if enrol.Final(rerr) {
					return nil, rerr
				}
				err = errors.Join(err, rerr)
			}
		}
		a.log.Warn("the master cannot be reached yet", "error", err)
		a.status.waiting("connecting", err)
		if err := b.Wait(ctx); err != nil {
			return nil, err
		}
	}
}
