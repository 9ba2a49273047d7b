package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
	"github.com/openmigrate/openmigrate/bench/loop"
	"github.com/openmigrate/openmigrate/bench/overhead"
)

// throughput is what tracking costs writers.
type throughput struct {
	Writes int             `json:"writes"` // with tracking, and without, in each pair
	Others []string        `json:"others"` // trackers on this machine that were there all the time
	Pairs  []overhead.Pair `json:"pairs"`
}

func (b *bench) throughput(ctx context.Context, dir string, res *results) (err error) {
	dev, err := loop.Attach(filepath.Join(dir, "disk"), b.o.tracked)
	if err != nil {
		return err
	}
	defer closing(dev, &err)
	d := track.Disk{ID: "bench", Path: dev.Path, Size: dev.Size}
	if err := overhead.Prepare(ctx, d); err != nil {
		return err
	}
	t := &throughput{Writes: b.o.writes, Others: overhead.Others()}
	if len(t.Others) > 0 {
		b.Say("warning: %d other trackers run on this machine, in both halves of each pair: %v", len(t.Others), t.Others)
	}
	o := ebpf.Options{Instance: fmt.Sprintf("bench-%d", os.Getpid())}
	for i := range b.o.pairs {
		p, err := overhead.Measure(ctx, d, o, int64(b.o.writes)*overhead.Block, i)
		if err != nil {
			return err
		}
		b.Say("pair %d: %.0f writes a second without tracking, %.0f with: %.3f", i+1, t.rate(p.Plain), t.rate(p.Tracked), p.Ratio())
		t.Pairs = append(t.Pairs, p)
		res.Throughput = t
	}
	return nil
}

// rate is in writes per second.
func (t *throughput) rate(took time.Duration) float64 { return float64(t.Writes) / took.Seconds() }
