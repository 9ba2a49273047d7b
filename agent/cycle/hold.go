package cycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/staging/format"
)

// Hold makes a cycle the last before a machine is moved: its freeze lasts until the restpoint is listed, and as long after it as Held takes.
//
//	passes ─► Freeze ─► read ─► send ─► commit ─► Held ─► thaw ─► the base is kept
//	                    └───── nothing is written to a disk ────┘
//
// The state directory may be on one of the file systems that are frozen. So what would be written to it in between stays in memory, and is written, or
// given up where it only saves work, after the thaw. An agent that dies in between leaves the base of the restpoint before, which is still right.
type Hold struct {
	// Freeze calls ahead as Config.Freeze does, and inside while nothing can write to any of the machine's disks, with what that achieves (with format.Crash something could, and inside proves that nothing did), and thaws when it returns. The context that it gives ends when
	// the file systems must be thawed. An error of inside means that there is no restpoint and is returned, wrapped; what befalls after inside returned
	// nil is for the caller to keep. ErrNotFrozen as with Config.Freeze, but it ends the cycle. nil: there is nothing that could be frozen, and the
	// cycle is one like any other.
	Freeze func(ctx context.Context, ahead func(context.Context) error, inside func(context.Context, Frozen) error) error

	// Held is called when the restpoint is listed, and before anything is thawed. It writes to no file.
	Held func(ctx context.Context, r *Result)
}

// lasts reports whether the cycle's freeze lasts until its restpoint is listed.
func (c *Config) lasts() bool { return c.Hold != nil && c.Hold.Freeze != nil }

// hold freezes, reads what is left, and makes the restpoint of it before anything is thawed. What fails before all was read may be tried again.
func (r *run) hold(p *pipeline, f *freezing) (err error) {
	handed := false
	defer func() {
		for _, d := range r.disks {
			if d.blocks != nil {
				d.blocks.Release()
			}
			if !handed {
				err = errors.Join(err, d.rec.Release())
			}
		}
		if !handed {
			f.held.room.giveBack(0)
		}
	}()
	for _, d := range r.disks {
		if d.blocks != nil {
			d.blocks.Hold()
		}
		if err := d.rec.Hold(); err != nil {
			return err
		}
	}
	began := time.Now()
	err = r.conf.Hold.Freeze(r.ctx, f.approach, func(ctx context.Context, frozen Frozen) error {
		if err := f.inside(ctx, frozen.Consistency != format.Crash); err != nil {
			return err
		}
		handed, r.frozen = true, frozen
		r.lower()
		if r.frozen.Why != "" {
			r.note("the restpoint is %s: %s", r.frozen.Consistency, r.frozen.Why)
		}
		defer context.AfterFunc(ctx, func() { r.keeper.cancel(context.Cause(ctx)) })()
		if err := errors.Join(r.handRead(p, f), p.close()); err != nil {
			return err
		}
		var err error
		if r.listed, err = r.list(r.keeper.ctx, nil); err != nil {
			return err
		}
		r.conf.Hold.Held(ctx, r.listed)
		return nil
	})
	if r.listed != nil {
		r.listed.Frozen = time.Since(began)
		return nil
	}
	return fmt.Errorf("after %v: %w", time.Since(began).Round(time.Millisecond), err)
}

// handRead passes on what was read within the freeze, and has the trees made.
func (r *run) handRead(p *pipeline, f *freezing) error {
	if err := r.passOn(p, f.held); err != nil {
		return err
	}
	// What turns out to be unknown can still be read: nothing was thawed.
	if err := r.repeat(p); err != nil {
		return err
	}
	return r.trees(p)
}

// keepHeld makes the restpoint that was listed within the freeze the base, now that files can be written again.
func (r *run) keepHeld() *Result {
	for _, d := range r.disks {
		if err := errors.Join(d.rec.Release(), d.rec.Seal(d.info(r.listed.Restpoint))); err != nil {
			// The restpoint is listed. Without the base the next cycle reads and offers everything.
			r.conf.Log.Warn("the base could not be kept", "disk", d.src.Name(), "error", err)
		}
	}
	r.keep()
	return r.listed
}
