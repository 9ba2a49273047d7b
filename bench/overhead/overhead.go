// Package overhead measures what tracking costs a writer: the same writes with the kernel's programs attached and without.
//
// Other trackers on the same host would be in both halves of a comparison and hide the difference: Others tells. Needs root. Linux only.
package overhead

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/bench/load"
)

// Block is the size in bytes of a write.
const Block = 4096

// Pair is one comparison.
type Pair struct {
	Plain   time.Duration `json:"plain"`
	Tracked time.Duration `json:"tracked"`
}

// Ratio is the throughput with tracking against that without.
func (p Pair) Ratio() float64 {
	if p.Tracked <= 0 {
		return 0
	}
	return p.Plain.Seconds() / p.Tracked.Seconds()
}

// Prepare writes to a disk until the file behind it has its blocks, so that no pair pays for them. What was on the disk is lost.
func Prepare(ctx context.Context, d track.Disk) error { return load.Fill(ctx, d.Path, d.Size, 0) }

// Measure makes one pair: bytes are written past the page cache to random places of the disk, half of them before and half of them after
// the other kind's, so that a machine that becomes slower or faster meanwhile does so for both. round decides which kind is first.
func Measure(ctx context.Context, d track.Disk, o ebpf.Options, bytes int64, round int) (Pair, error) {
	var p Pair
	for i := range 4 {
		to, with := &p.Plain, false
		if (i == 1 || i == 2) != (round%2 == 1) {
			to, with = &p.Tracked, true
		}
		took, err := write(ctx, d, o, bytes/2, uint64(4*round+i+1), with)
		if err != nil {
			return p, err
		}
		*to += took
	}
	return p, nil
}

func options(d track.Disk, seed uint64) load.Options {
	return load.Options{Path: d.Path, Size: d.Size, Block: Block, Seed: seed}
}

func write(ctx context.Context, d track.Disk, o ebpf.Options, bytes int64, seed uint64, tracked bool) (_ time.Duration, err error) {
	if tracked {
		t, err := ebpf.Open(o)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, t.Close(), ebpf.Remove(o)) }()
		if err := t.Watch(ctx, []track.Disk{d}); err != nil {
			return 0, err
		}
		if s := t.Status(d.ID); s.Tracker != "ebpf" {
			return 0, fmt.Errorf("track %s: %s", d.Path, s.Why)
		}
	}
	return load.Run(ctx, options(d, seed), bytes)
}

// Others names the instances whose programs are attached on this host.
func Others() []string {
	entries, err := os.ReadDir(ebpf.DefaultRoot)
	if err != nil {
		return nil // it is made by the first tracker
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
