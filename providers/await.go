package providers

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Await calls get, with a pause between, until done says so, and returns what it got last. ErrTryAgain is waited out, any other error ends it,
// and so does the end of ctx.
func Await[T any](ctx context.Context, pause time.Duration, get func(context.Context) (T, error), done func(T) (bool, error)) (T, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		got, err := get(ctx)
		ok := false
		if err == nil {
			ok, err = done(got)
		}
		if ok || err != nil && !errors.Is(err, ErrTryAgain) {
			return got, err
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return got, errors.Join(ctx.Err(), err)
		}
	}
}

// AwaitVolume waits until a volume is available and, if it is attached to a writer, until it can be found there.
func AwaitVolume(ctx context.Context, p Volumes, id string, pause time.Duration) (Volume, error) {
	return Await(ctx, pause, func(ctx context.Context) (Volume, error) { return p.Volume(ctx, id) }, func(v Volume) (bool, error) {
		if v.State == StateFailed {
			return false, fmt.Errorf("volume %s failed: %s", id, v.Reason)
		}
		return v.State == StateAvailable && (v.Attachment == nil || v.Attachment.Ready), nil
	})
}

// AwaitSnapshot waits until a snapshot is available.
func AwaitSnapshot(ctx context.Context, p Snapshots, id string, pause time.Duration) (Snapshot, error) {
	return Await(ctx, pause, func(ctx context.Context) (Snapshot, error) { return p.Snapshot(ctx, id) }, func(s Snapshot) (bool, error) {
		if s.State == StateFailed {
			return false, fmt.Errorf("snapshot %s failed: %s", id, s.Reason)
		}
		return s.State == StateAvailable, nil
	})
}

// AwaitInstance waits until an instance is in a state. For StateTerminated an instance that is not found any more is as good.
func AwaitInstance(ctx context.Context, p Instances, id string, want State, pause time.Duration) (Instance, error) {
	got, err := Await(ctx, pause, func(ctx context.Context) (Instance, error) { return p.Instance(ctx, id) }, func(i Instance) (bool, error) {
		switch {
		case i.State == want:
			return true, nil
		case i.State == StateFailed, i.State == StateTerminated, want == StateRunning && i.State == StateStopped:
			return false, fmt.Errorf("instance %s is %s, not %s: %s", id, i.State, want, i.Reason)
		}
		return false, nil
	})
	if want == StateTerminated && errors.Is(err, ErrNotFound) {
		return Instance{ID: id, State: StateTerminated}, nil
	}
	return got, err
}
