package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/agent/freespace"
	"github.com/openmigrate/openmigrate/agent/quiesce"
	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// What makes restpoints of a server that runs: the tracker, the freeze, and the map of free space. Image files have none of them.
const (
	freezeBudget = 500 * time.Millisecond
	freeTimeout  = 2 * time.Minute
)

// watchdogCommand ends in quiesce.WatchdogMain.
var watchdogCommand = []string{"/proc/self/exe", "watchdog"}

// hooksDir holds the scripts that prepare applications for a freeze.
const hooksDir = "/etc/openmigrate/hooks.d"

// openTracker opens the best tracker that there is.
func (a *agent) openTracker(anew string) (track.Tracker, error) {
	return ebpf.Open(ebpf.Options{Instance: a.member.Identity().ID, Anew: anew})
}

// hooks is the folder of hooks, if the assignment wants them and there is one.
func (a *agent) hooks(as *wire.Assignment) string {
	if as.Consistency != "" && as.Consistency != string(format.Application) {
		return ""
	}
	if _, err := os.Stat(hooksDir); err != nil {
		return ""
	}
	return hooksDir
}

func isDevice(s source.Source) bool { return s.Kind() == source.Disk }

// freeze is how a cycle gets to one instant, if the assignment wants that and every disk is a device, and how it knows who wrote meanwhile.
func (a *agent) freeze(as *wire.Assignment, disks []source.Source) (cycle.Freeze, cycle.Raw) {
	if as.Consistency == string(format.Fuzzy) || slices.ContainsFunc(disks, func(s source.Source) bool { return !isDevice(s) }) {
		return nil, nil
	}
	var covers map[string]*quiesce.Cover // of the last freeze
	raw := func(s source.Source, written *track.Marks) (stray cycle.Stray) {
		stray.Where, stray.Sure, stray.Unsynced = covers[s.Name()].Unfrozen(written)
		return stray
	}
	var paths []string
	for _, d := range disks {
		paths = append(paths, d.Name())
	}
	return func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, bool) error) (*cycle.Frozen, error) {
		mounts, not, err := quiesce.Targets(paths)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", cycle.ErrNotFrozen, err)
		}
		if covers, err = quiesce.Covers(paths, mounts); err != nil {
			return nil, fmt.Errorf("%w: %w", cycle.ErrNotFrozen, err)
		}
		plan := quiesce.Plan{Mounts: mounts, NotFrozen: not, Budget: freezeBudget, Hooks: a.hooks(as)}
		all, called := len(not) == 0 && len(mounts) > 0, false
		var failed error // of ahead: no fault of the file systems
		plan.Ahead = func(ctx context.Context) error {
			failed = ahead(ctx)
			return failed
		}
		q := quiesce.Quiescer{Watchdog: watchdogCommand}
		rep, err := q.Run(ctx, plan, func(ctx context.Context) error {
			called = true
			return inside(ctx, all)
		})
		switch {
		case errors.Is(err, quiesce.ErrThawed): // it took too long
			return nil, errors.Join(err, context.DeadlineExceeded)
		case err != nil && !called && failed == nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded):
			return nil, fmt.Errorf("%w: %w", cycle.ErrNotFrozen, err)
		case err != nil:
			return nil, err
		}
		return &cycle.Frozen{Consistency: rep.Level, Why: strings.Join(rep.Why, "; "), For: rep.For, Freezing: rep.Freezing, Thawing: rep.Thawing}, nil
	}, raw
}

// hide leaves out what a disk's file systems say is free.
func (a *agent) hide(ctx context.Context, s source.Source, r source.Reader) (source.Reader, error) {
	if !isDevice(s) {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, freeTimeout)
	defer cancel()
	free, notes, err := freespace.Of(ctx, freespace.Disk{Path: s.Name(), Size: r.Size()}, nil)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil, err
		}
		a.log.Warn("free space is sent, too", "disk", s.Name(), "error", err)
		return r, nil
	}
	for _, n := range notes {
		a.log.Info("free space", "disk", s.Name(), "part", n.String())
	}
	return freespace.Hide(r, free), nil
}
