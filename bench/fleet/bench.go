package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/program"
	"github.com/openmigrate/openmigrate/bench/system"
)

// results is everything that was measured. Times are in nanoseconds, sizes in bytes.
type results struct {
	Machine measure.Machine `json:"machine"`
	Fleet   *fleetResult    `json:"fleet,omitempty"`
	Offer   *offerResult    `json:"offer,omitempty"`
}

type bench struct {
	program.Work
	o *options
}

func newBench(o *options) (*bench, error) {
	w, err := program.NewWork(o.dir, "fleet-", o.keep)
	return &bench{Work: w, o: o}, err
}

func (b *bench) run(ctx context.Context) (*results, error) {
	r := &results{Machine: measure.ThisMachine(time.Now())}
	var failed error
	if b.o.wants("fleet") {
		var err error
		if r.Fleet, err = b.fleet(ctx); err != nil {
			failed = errors.Join(failed, fmt.Errorf("fleet: %w", err))
		}
	}
	if b.o.wants("offer") && ctx.Err() == nil {
		var err error
		if r.Offer, err = b.offer(ctx); err != nil {
			failed = errors.Join(failed, fmt.Errorf("offer: %w", err))
		}
	}
	return r, failed
}

// master starts a master of its own for a section.
func (b *bench) master(ctx context.Context, section string) (*system.System, error) {
	return system.StartMaster(ctx, b.o.bin, filepath.Join(b.Dir, section), system.Options{})
}
