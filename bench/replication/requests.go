package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/openmigrate/openmigrate/bench/disk"
	"github.com/openmigrate/openmigrate/bench/gateway"
	"github.com/openmigrate/openmigrate/bench/system"
)

// Little data on a huge disk: pieces of one default chunk at even distances, so that they touch many nodes of the tree.
const (
	hugeData   = 256 << 20
	hugePieces = 1024
)

// counting runs do with an installation whose requests to staging are counted.
func (b *bench) counting(ctx context.Context, name, disk string, do func(s *system.System, g *gateway.Gateway) error) (err error) {
	dir := b.path(name)
	defer removing(dir, &err)
	objects := filepath.Join(dir, "gateway")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return err
	}
	g, err := gateway.Start(ctx, objects, stagingArg)
	if err != nil {
		return err
	}
	defer g.Close()
	s, err := system.Start(ctx, b.o.bin, filepath.Join(dir, "system"), disk, system.Options{Staging: g.Staging(), Env: g.Environment()})
	if err != nil {
		return err
	}
	defer closing(s, &err)
	return do(s, g)
}

// countRequests replicates the disk once more and counts.
func (b *bench) countRequests(ctx context.Context) (*counted, error) {
	c := &counted{}
	return c, b.counting(ctx, "requests", b.disk.Path, func(s *system.System, g *gateway.Gateway) error {
		before := g.Requests()
		cycle, err := s.Sync(ctx)
		if err != nil {
			return err
		}
		c.Requests, c.Stored, c.Packs = g.Requests().Since(before), cycle.Restpoint.Stats.Stored, cycle.Restpoint.Stats.Packs
		b.Say("requests of a first replication: %v for %d packs, %s", c.Requests, c.Packs, gib(c.Stored))
		if c.Stored == 0 {
			return fmt.Errorf("restpoint %s stored nothing", cycle.Restpoint.ID)
		}
		return nil
	})
}

// hugeDisk replicates a huge sparse disk, and again without any change.
func (b *bench) hugeDisk(ctx context.Context) (_ *huge, err error) {
	h := &huge{Size: b.o.huge}
	path := b.path("huge.img")
	defer removing(path, &err)
	if err := disk.Sparse(path, h.Size, hugeData, hugePieces, 1); err != nil {
		return nil, err
	}
	image, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	h.Data = image.Data
	return h, b.counting(ctx, "huge", path, func(s *system.System, g *gateway.Gateway) error {
		var err error
		if h.First, err = s.Sync(ctx); err != nil {
			return err
		}
		before := g.Requests()
		if h.Unchanged, err = s.Sync(ctx); err != nil {
			return err
		}
		h.Requests = g.Requests().Since(before)
		b.Say("%s sparse: first %.2f s, unchanged %.2f s with requests %v, agent's peak %d MiB", gib(h.Size), h.First.Wall.Seconds(), h.Unchanged.Wall.Seconds(), h.Requests, h.Unchanged.Agent.Peak>>20)
		return nil
	})
}
