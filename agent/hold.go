package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/quiesce"
	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/internal/enrol"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// A hold is the source's side of a cutover:
//
//	hooks stop services ─► passes, freeze, the rest is sent ─► restpoint listed ─► wait, frozen ─┬─ released: thaw, hooks start services
//	                                                                                             ├─ live, and the source is to stop: power off
//	                                                                                             └─ time is up: thaw; services stay stopped
//
// What the source acknowledged before the freeze is in the restpoint; after it nothing is acknowledged until it is thawed. Each hold freezes once: an agent that is started
// again and finds its hold still there says that it is lost.

// Times of a hold.
const (
	holdTries  = 3                      // cycles that failed before anything was listed
	holdBudget = 5 * time.Second        // to get all file systems frozen: writers wait longer than that anyway
	holdLook   = 200 * time.Millisecond // how often it is looked whether the assignment changed
	holdSlack  = 30 * time.Second       // what a thaw may be late by before the watchdog does it
	holdAlive  = 2 * time.Minute        // for one turn of the wait, a report to the master included
	offTries   = 30 * time.Second       // to tell the master before the power goes off
	syncForOff = 10 * time.Second
)

// errReleased: the master let go before the hold was what it was to be.
var errReleased = errors.New("the hold was released")

// errLost: file systems were thawed before the master let go.
var errLost = errors.New("the hold is lost")

// hold does what there is to do for the assignment's hold, or for one that is over. done: nothing but to wait for news. last is the master's last restpoint,
// made the one that the base is of.
func (a *agent) hold(ctx context.Context, as *wire.Assignment, last *string) (did holdStep, err error) {
	r := a.held
	switch {
	case as == nil || as.Hold == nil && r == nil:
		return holdNothing, nil
	case as.Hold == nil || r != nil && r.ID != as.Hold.ID: // released, or forgotten by a master that has another
		if r.Phase != wire.HoldReleased {
			err := a.startServices(ctx, r)
			if err := a.phase(r, wire.HoldReleased, messageOf("", err)); err != nil {
				return holdNothing, err
			}
		}
		a.tell(ctx, "waiting", r.report())
		if as.Hold != nil {
			return holdActed, a.begin(ctx, as, last)
		}
		if r.Base != "" {
			*last = r.Base
		} else if a.told == *r.report() { // else the next start tells it
			return holdNothing, a.keepHold(nil)
		}
		return holdNothing, nil
	case r == nil:
		return holdActed, a.begin(ctx, as, last)
	}
	if as.Hold.Live && r.Phase == wire.HoldLost && !strings.Contains(r.Message, liveWords) {
		if err := a.phase(r, r.Phase, r.Message+liveWords); err != nil {
			return holdNothing, err
		}
	}
	a.tell(ctx, "waiting", r.report())
	return holdWaits, nil
}

// holdStep says what hold did.
type holdStep int

const (
	holdNothing holdStep = iota // cycles go on
	holdActed                   // look again
	holdWaits                   // no cycles; wait for news
)

// liveWords are added to a report when the copy serves while its source is not held.
const liveWords = "; its copy serves in its place, so nothing is replicated and no service is started here"

// tell says how the hold stands, unless the master has heard the same from this process.
func (a *agent) tell(ctx context.Context, state string, h *wire.HoldReport) {
	if a.told == *h {
		return
	}
	a.status.hold(state, h)
	if a.report(ctx, &wire.Report{State: state, Message: holdWords(h), Hold: h}) == nil {
		a.told = *h
	}
}

func holdWords(h *wire.HoldReport) string {
	out := "cutover " + h.ID + ": " + h.State
	if h.Message != "" {
		out += ": " + h.Message
	}
	return out
}

func messageOf(message string, err error) string {
	if err != nil {
		return strings.TrimPrefix(message+"; "+err.Error(), "; ")
	}
	return message
}

// begin makes a hold and waits for its end. Errors are those that end the agent.
func (a *agent) begin(ctx context.Context, as *wire.Assignment, last *string) error {
	h := &holding{agent: a, as: as, r: &holdRecord{ID: as.Hold.ID, Phase: wire.HoldStopping, Base: *last, Boot: bootID()}}
	if err := a.keepHold(h.r); err != nil {
		return err
	}
	a.tell(ctx, "waiting", h.r.report())
	err := h.run(ctx, last)
	switch {
	case h.listed == nil && errors.Is(err, errReleased):
		err := a.startServices(ctx, h.r)
		h.r.Base = ""
		return a.settle(ctx, h.r, wire.HoldReleased, messageOf("released before the restpoint was made", err), nil)
	case h.listed == nil:
		message := messageOf(err.Error(), a.startServices(ctx, h.r))
		h.r.Base = ""
		return a.settle(ctx, h.r, wire.HoldFailed, message, err)
	}
	*last, h.r.Base = h.listed.Restpoint, ""
	if errors.Is(err, errReleased) {
		return a.settle(ctx, h.r, wire.HoldReleased, messageOf("", a.startServices(ctx, h.r)), nil)
	}
	return a.settle(ctx, h.r, wire.HoldLost, strings.TrimPrefix(err.Error(), errLost.Error()+": "), err)
}

// settle notes and tells how a hold ended, also while the agent is being stopped. It returns what ends the agent.
func (a *agent) settle(ctx context.Context, r *holdRecord, phase, message string, why error) error {
	err := a.phase(r, phase, message)
	a.log.Info("hold ended", "cutover", r.ID, "as", phase, "message", message)
	a.tell(context.WithoutCancel(ctx), "waiting", r.report())
	switch {
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), err)
	case enrol.Final(why):
		return errors.Join(why, err)
	}
	return err
}

// holding is a hold that is under way. It belongs to the loop's goroutine.
type holding struct {
	*agent
	as       *wire.Assignment
	r        *holdRecord
	note     string        // of services that were not stopped, or file systems that could not be frozen
	deadline time.Time     // of the wait; zero: nothing is frozen
	late     *time.Timer   // ends the freeze unless something is listed
	lease    *quiesce.Hold // nil: nothing is frozen
	listed   *cycle.Result
	end      error // of the wait: errReleased or errLost
}

// run returns why it ended: errReleased, errLost with the reason, or, when nothing was listed, why not.
func (h *holding) run(ctx context.Context, last *string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		h.watch(ctx, cancel)
	}()
	err := h.make(ctx, last)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errReleased) {
		err = cause
	}
	cancel(nil)
	<-watch
	if h.end != nil {
		return h.end
	}
	return err
}

// watch ends ctx when the master lets go.
func (h *holding) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	t := time.NewTicker(holdLook)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if now := h.current(); now.Hold == nil || now.Hold.ID != h.r.ID {
				cancel(errReleased)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (h *holding) make(ctx context.Context, last *string) (err error) {
	if h.note, err = h.stopServices(ctx, h.r); err != nil {
		return fmt.Errorf("stop services: %w", err)
	}
	for try := 1; ; try++ {
		if err := h.phase(h.r, wire.HoldSyncing, h.note); err != nil {
			return err
		}
		h.tell(ctx, "replicating", h.r.report())
		_, err = h.runCycle(ctx, &link{Client: h.client}, h.as, *last, h)
		if err == nil || h.listed != nil {
			return err
		}
		h.log.Error("the cutover's restpoint was not made", "try", try, "error", err)
		if ctx.Err() != nil || try == holdTries || errors.Is(err, cycle.ErrNotFrozen) || enrol.Final(err) {
			return err
		}
		hello, herr := h.hello(ctx)
		if herr != nil {
			return errors.Join(err, herr)
		}
		*last = hello.LastRestpoint
		h.r.Base = *last
	}
}

// cycleHold is how the cycle freezes.
func (h *holding) cycleHold(disks []source.Source) (*cycle.Hold, error) {
	out := &cycle.Hold{Held: h.wait}
	var paths []string
	for _, d := range disks {
		if !isDevice(d) {
			h.nothing("image files have no file systems to freeze")
			return out, nil
		}
		paths = append(paths, d.Name())
	}
	mounts, not, err := quiesce.Targets(paths)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", cycle.ErrNotFrozen, err)
	case len(mounts) == 0 && len(not) == 0:
		h.nothing("no file system of these disks is mounted")
		return out, nil
	case len(not) > 0:
		return nil, fmt.Errorf("%w: %s. Unmount it, or mount it read-only, for the cutover", cycle.ErrNotFrozen, strings.Join(not, "; "))
	}
	out.Freeze = h.freeze(mounts)
	return out, nil
}

// nothing tells the master once that nothing could be frozen.
func (h *holding) nothing(why string) {
	if words := "nothing could be frozen: " + why; !strings.Contains(h.note, words) {
		h.note = strings.TrimPrefix(h.note+"; "+words, "; ")
	}
}

// freeze holds mounts frozen while inside runs, which includes the wait.
func (h *holding) freeze(mounts []quiesce.Mount) func(context.Context, func(context.Context) error, func(context.Context, cycle.Frozen) error) error {
	return func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, cycle.Frozen) error) error {
		if err := h.phase(h.r, phaseFreezing, h.note); err != nil {
			return err
		}
		lease := &quiesce.Hold{}
		plan := quiesce.Plan{Mounts: mounts, Budget: holdBudget, Hold: lease, Ahead: ahead}
		stopped := len(h.r.Stopped) > 0
		if _, err := os.Stat(hooksDir); err == nil && !stopped { // else there is nothing left to prepare
			plan.Hooks = hooksDir
		}
		limit := h.timeout()
		lease.Extend(limit + holdSlack + time.Minute) // hooks and the sync come before the freeze
		h.gate.close()
		defer h.thawed()
		called := false
		q := quiesce.Quiescer{Watchdog: watchdogCommand}
		_, err := q.Run(ctx, plan, func(ctx context.Context) error {
			called = true
			lease.Extend(limit + holdSlack)
			h.deadline, h.lease = time.Now().Add(limit), lease
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			h.late = time.AfterFunc(limit, func() { cancel(fmt.Errorf("the restpoint was not made within %v of the freeze", limit)) })
			defer h.late.Stop()
			level := lease.Level
			if stopped && level == format.Filesystem {
				level = format.Application
			}
			if level != format.Filesystem && level != format.Application {
				return fmt.Errorf("%w: the restpoint would be %s: %s", cycle.ErrNotFrozen, level, strings.Join(lease.Why, "; "))
			}
			return inside(ctx, cycle.Frozen{Consistency: level})
		})
		switch {
		case err == nil:
			return nil
		case h.listed != nil: // what was sent counts; that it was thawed too early is for the master to judge
			if !errors.Is(h.end, errReleased) || errors.Is(err, quiesce.ErrThawed) {
				h.end = fmt.Errorf("%w: %w", errLost, err)
			}
			return nil
		case errors.Is(err, quiesce.ErrThawed):
			return errors.Join(err, context.DeadlineExceeded)
		case !called && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("%w: %w", cycle.ErrNotFrozen, err)
		}
		return err
	}
}

func (h *holding) timeout() time.Duration {
	d := time.Duration(h.as.Hold.Timeout)
	if d <= 0 {
		d = wire.DefaultHold
	}
	return min(d, wire.MaxHold)
}

// thawed lets everybody write again.
func (h *holding) thawed() {
	h.gate.open(h.dir.Dir, h.logTo)
	h.status.change(func(*Status) {})
	if h.listed == nil {
		if err := h.phase(h.r, wire.HoldSyncing, h.note); err != nil {
			h.log.Warn("the hold could not be noted", "error", err)
		}
	}
}
