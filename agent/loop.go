package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/internal/enrol"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// errHeld ends a cycle that may not go on: what it committed stays, and is not sent again.
var errHeld = errors.New("cycle was stopped")

// scheduleFile remembers the start of the last cycle, so that a restart of the agent does not begin another one.
const scheduleFile = "schedule.json"

// loop makes restpoints when they are due. last is the master's last restpoint of this machine.
func (a *agent) loop(ctx context.Context, last string) error {
	var s schedule
	if _, err := a.dir.Read(scheduleFile, &s); err != nil || last == "" {
		s = schedule{}
	}
	a.status.last(last, time.Time{})
	said := plan{}
	for ctx.Err() == nil {
		as := a.current()
		step, err := a.hold(ctx, as, &last)
		if err != nil {
			return err
		}
		if step != holdNothing {
			said = plan{}
			if step == holdWaits {
				if _, err := a.idle(ctx, lookAgain); err != nil {
					return err
				}
			}
			continue
		}
		p := s.next(a.clock.Now(), as)
		if !p.run {
			a.status.wait(p)
			if p.state != said.state || p.message != said.message {
				_ = a.report(ctx, &wire.Report{State: p.state, Message: p.message})
				said = p
			}
			hello, err := a.idle(ctx, p.wait)
			if err != nil {
				return err
			}
			if hello != nil {
				last = hello.LastRestpoint
			}
			continue
		}
		said = plan{}
		started := a.clock.Now()
		link := &link{Client: a.client}
		done, err := a.runCycle(ctx, link, as, last, nil)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			a.track.broke(err)
			if enrol.Final(err) {
				return err
			}
			if wire.HasCode(err, wire.CodeFulfilled) {
				s.made(started, a.clock.Now(), as.Sync)
			} else if !errors.Is(err, errHeld) {
				s.failed(a.clock.Now(), as.Sync)
				a.fail(ctx, err, link.told)
				said = s.next(a.clock.Now(), a.current()) // the reason stays what the master heard last
			}
			// Whether its restpoint was listed is for the master to say.
			hello, err := a.hello(ctx)
			if err != nil {
				return err
			}
			last = hello.LastRestpoint
			continue
		}
		last = done.Restpoint
		a.track.made()
		if a.held != nil { // it goes on from the base that a hold left
			if err := a.keepHold(nil); err != nil {
				return err
			}
		}
		s.made(started, a.clock.Now(), as.Sync)
		if err := a.dir.Write(scheduleFile, &s); err != nil {
			a.log.Warn("the schedule could not be kept", "error", err)
		}
		a.status.last(last, done.Time)
		a.status.trackers(done.Disks)
		said = s.next(a.clock.Now(), a.current())
		_ = a.report(ctx, cycleReport(done, s.Ended.Sub(s.Started), said))
		a.log.Info("restpoint made", "restpoint", last, "total", done.Stats.Total, "zero", done.Stats.Zero, "same", done.Stats.Same,
			"known", done.Stats.Known, "sent", done.Stats.Sent, "stored", done.Stats.Stored, "packs", done.Stats.Packs,
			"seconds", a.clock.Now().Sub(started).Seconds())
		if a.opts.Done != nil {
			a.opts.Done(done)
		}
	}
	return context.Cause(ctx)
}

// idle waits for news. A HelloResponse is returned when the master had forgotten this process.
func (a *agent) idle(ctx context.Context, wait time.Duration) (*wire.HelloResponse, error) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-a.rehello:
		return a.hello(ctx)
	case <-a.news:
	case <-t.C:
	case <-ctx.Done():
	}
	return nil, nil
}

// runCycle makes one restpoint, unless the assignment stops it. With a hold it is that one's.
func (a *agent) runCycle(ctx context.Context, master *link, as *wire.Assignment, last string, h *holding) (*cycle.Result, error) {
	inv, err := a.opts.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	disks, err := sources(inv, a.opts.Disks, as.Disks)
	if err != nil {
		return nil, err
	}
	keys, err := format.UnmarshalKeys(as.Keys)
	if err != nil {
		return nil, fmt.Errorf("read the assignment's keys: %w", err)
	}
	put, err := staging.NewSignedClient(as.StagingHosts, as.StagingCA)
	if err != nil {
		return nil, err
	}
	defer put.Close()
	id := a.member.Identity()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := make(chan struct{})
	limit := newLimiter()
	limit.set(as.Bandwidth)
	sync, snapshot, hold := as.Sync, a.snapshot(as, disks), (*cycle.Hold)(nil)
	if h != nil {
		if hold, err = h.cycleHold(disks); err != nil {
			return nil, err
		}
		sync = as.Hold.ID
	}
	go func() {
		defer close(watch)
		if h == nil {
			a.watch(ctx, limit, cancel)
		}
	}()
	if h == nil {
		_ = a.report(ctx, &wire.Report{State: "replicating"})
	}
	a.status.progress(wire.Progress{Phase: "opening"})
	hide := a.hide
	if a.opts.IncludeFree {
		hide = nil
	}
	freeze, raw := a.freeze(as, disks)
	if hold != nil && hold.Freeze != nil {
		snapshot, raw = nil, nil // the disks themselves are what is held, and raw is of the usual freeze
	}
	out, err := cycle.Run(ctx, cycle.Config{
		Tracker: a.track.tracker(disks), Freeze: freeze, Raw: raw, Hold: hold, Snapshot: snapshot, Hide: hide,
		Master: master, Staging: put, State: a.dir.Dir, Keys: keys, Project: id.Project, Machine: id.ID,
		SigningKey: ed25519.NewKeyFromSeed(id.SigningKey), Version: version.String(), Sources: disks, ChunkSize: as.ChunkSize,
		Sync: sync, Last: last, Inventory: inv, Limit: limit.reader(ctx), Report: a.progress, Log: a.log, Buffers: a.buffers,
		Blocks: a.blocks,
	})
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errHeld) {
		err = cause
	}
	cancel(nil)
	<-watch
	return out, err
}

// watchEvery is how often the window is looked at while a cycle runs.
const watchEvery = 5 * time.Second

// watch keeps a cycle to the assignment as it changes: its bandwidth, and whether it may go on.
func (a *agent) watch(ctx context.Context, limit *limiter, cancel context.CancelCauseFunc) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.news:
		case <-t.C:
		}
		as := a.current()
		limit.set(as.Bandwidth)
		if as.Hold != nil {
			cancel(fmt.Errorf("%w: a cutover begins", errHeld))
			return
		}
		if as.Paused {
			cancel(fmt.Errorf("%w: paused", errHeld))
			return
		}
		if open, err := as.Window.Open(a.clock.Now()); err == nil && !open {
			cancel(fmt.Errorf("%w: the window closed", errHeld))
			return
		}
	}
}

func (a *agent) progress(p wire.Progress) {
	a.status.progress(p)
	if a.gate.isShut() {
		return
	}
	if a.opts.Progress != nil {
		a.opts.Progress(p)
	}
}

// link is what a cycle says to the master. It belongs to one cycle.
type link struct {
	*wire.Client
	told bool // the master knows the events of the cycle's failure
}

// AbortSession tells why the cycle failed, and remembers what was heard.
func (l *link) AbortSession(ctx context.Context, session string, f *wire.Failure) error {
	err := l.Client.AbortSession(ctx, session, f)
	l.told = err == nil && len(f.Events) > 0
	return err
}

// fail tells of a cycle that failed. What befell a disk is told once: told says that the end of the session has done so.
func (a *agent) fail(ctx context.Context, err error, told bool) {
	a.log.Error("no restpoint was made", "error", err)
	a.status.set("error", err)
	r := &wire.Report{State: "error", Message: err.Error()}
	if e := cycle.EventOf(err); e != nil && !told {
		r.Events = []wire.Event{*e}
	}
	_ = a.report(ctx, r)
}

// report tells the master news. It may fail: nothing depends on it but what a hold says.
func (a *agent) report(ctx context.Context, r *wire.Report) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := a.client.Report(ctx, r)
	if err != nil {
		a.log.Debug("report to the master", "error", err)
	}
	return err
}
