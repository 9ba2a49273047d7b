package master

import (
	"context"

	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/master/gc"
	"github.com/openmigrate/openmigrate/wire"
)

// operations is what operators may ask of staging: the API's view of the collector and the key ring.
type operations struct {
	gc   *gc.Collector
	ring interface {
		NewRecoveryKey(ctx context.Context, hint string) (string, error)
		HasRecovery() bool
	}
}

func newOperations(m *Master) *operations {
	return &operations{gc: gc.New(m.Catalog, m.bucket, m.ring, clock.Real{}), ring: m.ring}
}

// progress shows the collector's counts as the wire does.
func progress(to func(wire.Progress)) gc.Progress {
	return func(phase string, done, total int64) {
		if to != nil {
			to(wire.Progress{Phase: phase, Done: done, Total: total})
		}
	}
}

// Stats is what staging holds, and whether its keys are saved.
func (o *operations) Stats(ctx context.Context) (wire.StagingStats, error) {
	s, err := o.gc.Stats(ctx)
	if err == nil {
		s.RecoveryKey, s.Counted = o.ring.HasRecovery(), clock.Real{}.Now()
	}
	return s, err
}

// Check compares the index with the bucket.
func (o *operations) Check(ctx context.Context, deep bool, to func(wire.Progress)) (any, error) {
	return o.gc.Check(ctx, &gc.CheckOptions{Deep: deep, Progress: progress(to)})
}

// Collect deletes what nothing needs.
func (o *operations) Collect(ctx context.Context, to func(wire.Progress)) (any, error) {
	return o.gc.Collect(ctx, &gc.Options{Progress: progress(to)})
}

// Rebuild makes the index anew from the bucket.
func (o *operations) Rebuild(ctx context.Context, to func(wire.Progress)) (any, error) {
	return o.gc.Rebuild(ctx, progress(to))
}

// NewRecoveryKey makes an offline key.
func (o *operations) NewRecoveryKey(ctx context.Context, hint string) (string, error) {
	return o.ring.NewRecoveryKey(ctx, hint)
}

// PublishMachine puts a machine's record into the bucket, so that the catalog can be rebuilt from it.
func (o *operations) PublishMachine(ctx context.Context, id string) error {
	return o.gc.PublishMachine(ctx, id)
}

// RetireMachine deletes the record of a machine that was removed.
func (o *operations) RetireMachine(ctx context.Context, id string) error {
	return o.gc.RetireMachine(ctx, id)
}
