// Package quiesce holds all file systems of a machine still for one short moment, so that its disks can be
// read as they are at one instant.
//
// The invariant: whatever is frozen is thawed, by Run itself, or by the watchdog process when the agent died,
// hangs or overruns its budget. The level of consistency in a Report is never more than was observed.
// One Run at a time per machine; a Quiescer holds no state of its own.
package quiesce

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/quiesce/hooks"
	"github.com/openmigrate/openmigrate/staging/format"
)

// ErrThawed says that a file system was thawed by someone else, the watchdog included, before Run thawed it:
// what was read inside is not of one instant.
var ErrThawed = errors.New("file system was thawed early")

// ErrFrozen says that a file system was frozen already, by someone else; it is left as it was.
var ErrFrozen = errors.New("file system is frozen already")

// Linux's include/uapi/linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

const (
	defaultBudget = 500 * time.Millisecond
	defaultGrace  = 500 * time.Millisecond
	maxMounts     = 200 // an index is one byte in the watchdog's protocol
)

// Mount is a file system to freeze.
type Mount struct {
	Point   string // a directory on it
	FSType  string
	Devices []string // major:minor of the block devices that it is mounted from, as Targets found them
	Synced  bool     // it cannot be frozen: it is synced before, and inside must prove that nothing was written to it since, the sync included
}

// Plan says what to freeze. A file system that lies on another (through a loop device) stands before it.
type Plan struct {
	Mounts      []Mount
	NotFrozen   []string      // file systems on the same disks that cannot be frozen, with the reason: inside must prove that nothing was written
	Suspends    bool          // inside itself freezes all file systems, by taking a snapshot: Mounts is empty
	Hooks       string        // directory of hooks; "" for none
	HookTimeout time.Duration // for each hook and direction; 0 is the hooks package's default
	Budget      time.Duration // from the first freeze to the end of the context given to inside; 0 is 500 ms
	Grace       time.Duration // what the watchdog allows beyond Budget; 0 is 500 ms, or 20 s with a Hold
	Hold        *Hold         // the freeze lasts as long as inside: Budget is for the calls that freeze, Grace for the time between two beats; nil: it does not
	// Ahead is called when all is ready for the freeze, and nothing is frozen yet: what it does does not keep writers waiting. nil: nothing is to be done.
	Ahead func(context.Context) error
}

// Frozen is one file system and how long it was frozen.
type Frozen struct {
	Mount Mount
	For   time.Duration // from its freeze call to the return of its thaw call: writers were blocked no longer
	start time.Time
	file  *os.File
}

// Report says what happened. Level is the highest consistency that may be claimed.
type Report struct {
	Frozen []Frozen
	For    time.Duration // from the first freeze call to the last thaw's return
	// Parts of For: to the return of the last freeze call, and from the first thaw call on.
	Freezing, Thawing time.Duration
	Hooks             []hooks.Result
	Level             format.Consistency
	Why               []string // why Level is not higher
}

// Quiescer freezes and thaws.
type Quiescer struct {
	// Watchdog is the command that ends in WatchdogMain; Run appends its arguments.
	Watchdog []string
}

// Run freezes plan's file systems, calls inside and thaws. Thaw hooks are called after every failure and panic, too.
// inside must not write to a file, log or start a process: it would wait for a file system that only Run thaws.
// Test the error for ErrThawed and ErrFrozen.
func (q *Quiescer) Run(ctx context.Context, plan Plan, inside func(context.Context) error) (rep Report, err error) {
	rep.Level = format.Fuzzy
	if len(plan.Mounts) > maxMounts {
		return rep, fmt.Errorf("freeze: %d file systems, at most %d", len(plan.Mounts), maxMounts)
	}
	if plan.Budget <= 0 {
		plan.Budget = defaultBudget
	}
	if plan.Grace <= 0 {
		plan.Grace = defaultGrace
		if plan.Hold != nil {
			plan.Grace = holdGrace
		}
	}
	files, err := openAll(plan.Mounts)
	if err != nil {
		return rep, err
	}
	defer closeAll(files)
	wd, err := startWatchdog(q.Watchdog, files, plan.Budget+plan.Grace)
	if err != nil {
		return rep, err
	}
	held := false
	stop := sync.OnceValue(func() error { return wd.stop(held) })
	defer func() { err = errors.Join(err, stop()) }()

	hooked := plan.Hooks != ""
	if hooked {
		set := hooks.Set{Dir: plan.Hooks, Timeout: plan.HookTimeout}
		guard, err := startGuard(q.Watchdog, &set)
		if err != nil {
			return rep, err
		}
		defer guard.end()
		ran, herr := set.Freeze(ctx)
		rep.Hooks = ran
		defer func() {
			thawed, terr := set.Thaw(context.WithoutCancel(ctx), ran)
			rep.Hooks = append(rep.Hooks, thawed...)
			if terr != nil {
				rep.lower(format.Filesystem, terr.Error())
			}
		}()
		if herr != nil {
			hooked = false
			rep.Why = append(rep.Why, herr.Error())
		}
	}
	if plan.Hooks == "" {
		rep.Why = append(rep.Why, "no hooks are configured")
	}
	if err := settle(ctx, plan.Mounts, files); err != nil {
		return rep, err
	}
	if err := lockMemory(); err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, unix.Munlockall()) }()
	if err := wd.send('e', 0); err != nil {
		return rep, err
	}
	if plan.Ahead != nil {
		if err := plan.Ahead(ctx); err != nil {
			return rep, fmt.Errorf("prepare to freeze: %w", err)
		}
	}
	if err := syncAll(ctx, plan.Mounts, files); err != nil { // what was written since settle
		return rep, err
	}
	if plan.Hold != nil {
		held := inside
		inside = func(budget context.Context) error {
			if err := budget.Err(); err != nil {
				return err
			}
			sofar := Report{Hooks: rep.Hooks, Why: slices.Clone(rep.Why)}
			sofar.judge(&plan, hooked)
			plan.Hold.Level, plan.Hold.Why = sofar.Level, sofar.Why
			beating, stop := plan.Hold.beat(ctx, wd, plan.Grace)
			defer stop()
			return held(beating)
		}
	}
	err = q.hold(ctx, plan, files, wd, &rep, inside)
	held = err == nil
	// Before the hooks are called, which may take longer than the watchdog waits: from then on whatever is frozen is somebody else's.
	if err = errors.Join(err, stop()); err != nil {
		rep.Level = format.Fuzzy
		return rep, err
	}
	rep.judge(&plan, hooked)
	if rep.For > plan.Budget && plan.Hold == nil {
		rep.lower(format.Crash, fmt.Sprintf("frozen for %v, the budget is %v", rep.For, plan.Budget))
	}
	return rep, nil
}

// judge says what was achieved if nothing is thawed early. hooked: there are hooks, and none failed.
func (r *Report) judge(plan *Plan, hooked bool) {
	r.Level = format.Filesystem
	switch {
	case hooked && len(r.Hooks) > 0:
		r.Level = format.Application
	case hooked:
		r.Why = append(r.Why, "the directory of hooks is empty")
	}
	if !plan.Suspends && !slices.ContainsFunc(plan.Mounts, func(m Mount) bool { return !m.Synced }) {
		r.lower(format.Crash, "no file system was frozen")
	}
	for _, why := range plan.NotFrozen {
		r.lower(format.Crash, why)
	}
}

// hold is the frozen part. Nothing in it may touch a file system.
func (q *Quiescer) hold(ctx context.Context, plan Plan, files []*os.File, wd *watchdog, rep *Report,
	inside func(context.Context) error) (err error) {
	rep.Frozen = make([]Frozen, 0, len(files))
	start := time.Now()
	ctx, cancel := context.WithDeadline(ctx, start.Add(plan.Budget))
	defer cancel()
	if err := wd.send('a', 0); err != nil {
		return err
	}
	defer func() {
		began := time.Now()
		for i := len(rep.Frozen) - 1; i >= 0; i-- {
			f := &rep.Frozen[i]
			if terr := thaw(f.file); terr != nil {
				err = errors.Join(err, fmt.Errorf("thaw %s: %w", f.Mount.Point, terr))
			}
			f.For = time.Since(f.start)
		}
		rep.For, rep.Thawing = time.Since(start), time.Since(began)
	}()
	for i, m := range plan.Mounts {
		if m.Synced {
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("freeze %s: %w", m.Point, err)
		}
		if err := wd.send('f', byte(i)); err != nil {
			return err
		}
		began := time.Now()
		if err := freeze(files[i]); err != nil {
			return errors.Join(fmt.Errorf("freeze %s: %w", m.Point, err), wd.send('u', byte(i)))
		}
		rep.Frozen = append(rep.Frozen, Frozen{Mount: m, start: began, file: files[i]})
	}
	rep.Freezing = time.Since(start)
	if err := inside(ctx); err != nil {
		if plan.Suspends {
			return err
		}
		return fmt.Errorf("read while frozen: %w", err)
	}
	return nil
}

func (r *Report) lower(to format.Consistency, why string) {
	rank := map[format.Consistency]int{format.Fuzzy: 0, format.Crash: 1, format.Filesystem: 2, format.Application: 3}
	if rank[to] < rank[r.Level] {
		r.Level = to
	}
	r.Why = append(r.Why, why)
}
