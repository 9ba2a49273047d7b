package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/wire"
)

// wait keeps the source as it is until the master lets go, the time is up, or the source is to go off. It runs while file systems are frozen: it writes to no file.
func (h *holding) wait(ctx context.Context, res *cycle.Result) {
	h.listed = res
	if h.late != nil {
		h.late.Stop()
	}
	if h.deadline.IsZero() { // nothing is frozen
		h.deadline = time.Now().Add(h.timeout())
	}
	report := &wire.HoldReport{ID: h.r.ID, State: wire.HoldFrozen, Restpoint: res.Restpoint, Message: h.note}
	t := time.NewTicker(holdLook)
	defer t.Stop()
	off, cannot := false, false
	for {
		hold := h.current().Hold
		switch {
		case hold == nil || hold.ID != h.r.ID:
			h.end = errReleased
			return
		case !hold.Live && time.Now().After(h.deadline):
			h.end = fmt.Errorf("%w: the cutover did not get on within %v of the freeze; services stay stopped until it is reverted", errLost, h.timeout())
			return
		case hold.Live && hold.StopSource && !off && !cannot:
			if err := h.powerOff(ctx, report.Restpoint); err != nil {
				cannot, report.Message = true, fmt.Sprintf("the source could not be powered off, do it by hand: %v", err)
			} else {
				off = true
			}
		}
		if h.lease != nil && hold.Live {
			h.lease.Extend(holdAlive)
		}
		if !off {
			h.tell(ctx, "waiting", report)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			if h.end = context.Cause(ctx); !errors.Is(h.end, errReleased) {
				h.end = fmt.Errorf("%w: the agent ends, or nobody would thaw if it did: %w", errLost, h.end)
			}
			return
		}
	}
}

// powerOff tells the master and ends the host, as it is: what is frozen stays so. It returns only if it could not be done.
func (h *holding) powerOff(ctx context.Context, restpoint string) error {
	report := &wire.HoldReport{ID: h.r.ID, State: wire.HoldOff, Restpoint: restpoint}
	for until := time.Now().Add(offTries); h.told != *report && time.Now().Before(until) && ctx.Err() == nil; {
		if h.tell(ctx, "waiting", report); h.told != *report {
			time.Sleep(time.Second)
		}
	}
	return h.opts.PowerOff()
}

// PowerOff writes back what is not frozen, as far as that is done within ten seconds, and turns the host off without asking anything that runs on it.
func PowerOff() error {
	done := make(chan struct{})
	go func() { // ends with the host, at the latest
		unix.Sync()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(syncForOff):
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	return nil
}
