package cycle

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/wire"
)

// keeper renews a session while it is used, and ends its context when the session is fenced.
type keeper struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

// reportEvery is how often progress is reported on this side; the master hears of it with each renewal.
const reportEvery = 500 * time.Millisecond

// keepAlive starts the keeper. end must be called.
func (r *run) keepAlive(ctx context.Context) *keeper {
	k := &keeper{}
	k.ctx, k.cancel = context.WithCancelCause(ctx)
	every := min(max(time.Duration(r.session.Lease.TTL)/3, 100*time.Millisecond), 2*time.Second)
	k.wg.Go(func() {
		renew, report := time.NewTicker(every), time.NewTicker(reportEvery)
		defer renew.Stop()
		defer report.Stop()
		for {
			select {
			case <-k.ctx.Done():
				return
			case <-report.C:
				if r.conf.Report != nil {
					r.conf.Report(r.n.progress(r.phase.Load().(string)))
				}
			case <-renew.C:
				p := r.n.progress(r.phase.Load().(string))
				_, err := r.conf.Master.RenewSession(k.ctx, r.session.ID, &p)
				if wire.HasCode(err, wire.CodeFenced) || wire.HasCode(err, wire.CodeRevoked) || wire.HasCode(err, wire.CodeFrozen) || wire.HasCode(err, wire.CodeNotFound) {
					k.cancel(err)
					return
				}
			}
		}
	})
	return k
}

// end stops the keeper and returns why the work failed: the session's end rather than the cancelled calls that followed.
func (k *keeper) end(err error) error {
	cause := context.Cause(k.ctx)
	k.cancel(nil)
	k.wg.Wait()
	var p *wire.Problem
	if err != nil && errors.As(cause, &p) {
		return cause
	}
	return err
}

// abort tells the master that the session will not be finished, and why. It may fail: the lease runs out by itself.
func (r *run) abort(ctx context.Context, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	f := &wire.Failure{Code: "failed", Message: cause.Error()}
	if e := EventOf(cause); e != nil {
		f.Code, f.Events = e.Code, []wire.Event{*e}
	} else if errors.Is(cause, context.Canceled) {
		f.Code, f.Message = "stopped", "the agent was stopped"
	}
	if err := r.conf.Master.AbortSession(ctx, r.session.ID, f); err != nil {
		r.conf.Log.Debug("abort session", "error", err)
	}
}

// EventOf makes the event that the operator should see of a cycle's failure; nil when it says nothing of a disk.
func EventOf(err error) *wire.Event {
	e := &wire.Event{Time: time.Now().UTC(), Level: "error", Message: err.Error()}
	var read *source.ReadError
	if errors.As(err, &read) {
		e.Disk, e.Offset = read.Source, &read.Offset
	}
	switch {
	case errors.Is(err, source.ErrVanished):
		e.Code = "disk-vanished"
	case errors.Is(err, source.ErrShrunk):
		e.Code = "disk-shrunk"
	case errors.Is(err, source.ErrLost):
		e.Code, e.Offset = "snapshot-lost", nil // no place on the disk is bad
	case read != nil:
		e.Code = "read-error"
	default:
		return nil
	}
	return e
}
