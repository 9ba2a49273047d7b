package hydrator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/hydrator/volume"
	"github.com/openmigrate/openmigrate/internal/telemetry"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// ErrCancelled: the master asked the holder of a job to stop.
var ErrCancelled = errors.New("job was cancelled")

// errLeaseLost: the master gave the job to somebody else, or would if asked.
var errLeaseLost = errors.New("job's lease ended")

const (
	minRenew   = 50 * time.Millisecond
	tellEvery  = 2 * time.Second  // progress, while there is some
	endTimeout = 20 * time.Second // to tell the master how a job ended
)

// hold runs work while it keeps the job's lease with its progress, and tells the master how it ended. Work stops when the
// lease is lost: two holders of one job must not write.
func hold(ctx context.Context, c JobClient, job *wire.Job, progress func(wire.Progress),
	work func(ctx context.Context, show func(wire.Progress)) (wire.JobResult, error)) (_ wire.JobResult, err error) {
	ctx, end := telemetry.Start(telemetry.Under(ctx, job.Trace), "job "+job.Kind)
	defer func() { end(&err) }()
	k := &keeper{c: c, job: job.ID, ttl: time.Duration(job.Lease.TTL), now: make(chan struct{}, 1)}
	workCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keepCtx, stop := context.WithCancel(workCtx)
	defer stop()
	var renewer sync.WaitGroup
	renewer.Go(func() {
		if err := k.keep(keepCtx); err != nil {
			cancel(err)
		}
	})
	res, err := work(workCtx, func(p wire.Progress) {
		k.set(p)
		if progress != nil {
			progress(p)
		}
	})
	stop()
	renewer.Wait()
	if errors.Is(err, errLeaseLost) {
		return res, err // nobody to tell
	}
	endCtx, endCancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer endCancel()
	if err == nil {
		if err := c.CompleteJob(endCtx, job.ID, &res); err != nil {
			return res, fmt.Errorf("complete job %s: %w", job.ID, err)
		}
		return res, nil
	}
	if ferr := c.FailJob(endCtx, job.ID, &wire.Failure{Code: failureCode(err), Message: cut(err.Error())}); ferr != nil && !errors.Is(err, ErrCancelled) {
		err = errors.Join(err, fmt.Errorf("tell the master: %w", ferr))
	}
	return res, err
}

// keeper renews a lease.
type keeper struct {
	c   JobClient
	job string
	ttl time.Duration // of the last renewal
	now chan struct{} // holds something when the master waits for what there is to say
	mu  sync.Mutex
	p   wire.Progress // guarded by mu
}

func (k *keeper) set(p wire.Progress) {
	k.mu.Lock()
	news := len(p.Views) > len(k.p.Views)
	k.p = p
	k.mu.Unlock()
	if news {
		select {
		case k.now <- struct{}{}:
		default:
		}
	}
}

// keep renews every third of the lease until ctx ends, and sooner when there is progress to tell. It gives up when the lease is over by this host's clock.
func (k *keeper) keep(ctx context.Context) error {
	if k.ttl <= 0 {
		return fmt.Errorf("%w: it was granted for %s", errLeaseLost, k.ttl)
	}
	renewed := time.Now() // by the monotonic clock, which does not jump; see node.confirm for what was granted before
	var told wire.Progress
	for {
		timer := time.NewTimer(max(min(k.ttl/3, tellEvery), minRenew))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-k.now:
			timer.Stop()
		case <-timer.C:
		}
		k.mu.Lock()
		p := k.p
		k.mu.Unlock()
		if time.Since(renewed) < k.ttl/3 && reflect.DeepEqual(p, told) {
			continue
		}
		callCtx, cancel := context.WithDeadline(ctx, renewed.Add(k.ttl))
		asked := time.Now() // the master counts from some time after it: an answer that was long on its way must not make the lease longer
		lease, err := k.c.RenewJob(callCtx, k.job, &p)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && lease.Cancelled:
			return ErrCancelled
		case err == nil && lease.TTL > 0:
			k.ttl, renewed, told = time.Duration(lease.TTL), asked, p
		case err == nil:
			return errLeaseLost
		case wire.HasCode(err, wire.CodeFenced), wire.HasCode(err, wire.CodeNotFound), wire.HasCode(err, wire.CodeRevoked),
			time.Since(renewed) >= k.ttl:
			return fmt.Errorf("%w: %w", errLeaseLost, err)
		}
	}
}

// confirm asks the master whether a job is still this node's, once its volumes are locked. A node that slept between the two finds that another one has
// done the job meanwhile, and a machine may run on the volumes; from here on nobody else can open them until this node has let go. So whatever is written is
// written by the one that the master means.
func (n *node) confirm(ctx context.Context, job *wire.Job) error {
	pause := minRenew
	for {
		lease, err := n.o.Client.RenewJob(ctx, job.ID, &wire.Progress{})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && lease.Cancelled:
			return ErrCancelled
		case err == nil:
			return nil
		case wire.HasCode(err, wire.CodeFenced), wire.HasCode(err, wire.CodeNotFound), wire.HasCode(err, wire.CodeRevoked):
			return fmt.Errorf("%w: %w", errLeaseLost, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		pause = min(2*pause, time.Second)
	}
}

// failureCode says for programs why a job failed.
func failureCode(err error) string {
	for _, c := range []struct {
		is   error
		code string
	}{
		{convert.ErrRefused, wire.CodeRefused},
		{ErrDamaged, "damaged"}, {ErrCancelled, "cancelled"}, {context.Canceled, "stopped"},
		{ErrProvider, "provider"}, {volume.ErrOutside, "target-outside"}, {volume.ErrNoDisk, "target-missing"}, {fs.ErrNotExist, "target-missing"},
		{volume.ErrInUse, "target-in-use"}, {volume.ErrTooSmall, "target-too-small"}, {volume.ErrNotEmpty, "target-not-empty"}, {volume.ErrKind, "target-kind"},
		{format.ErrSignature, "signature"}, {format.ErrWrongKey, "wrong-key"}, {format.ErrVersion, wire.CodeNewerVersion}, {format.ErrCorrupt, "damaged"},
		{staging.ErrTemporary, wire.CodeStaging}, {staging.ErrDenied, wire.CodeStaging},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return wire.CodeInternal
}

// cut keeps a message below what the master takes.
func cut(s string) string {
	const limit = 4096
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return s
}
