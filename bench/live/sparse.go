package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/bench/load"
	"github.com/openmigrate/openmigrate/bench/loop"
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/system"
)

// piece is how much is written in one place, in bytes.
const piece = 1 << 20

// sparse compares the same change on a large disk and on a small one.
type sparse struct {
	Large int64        `json:"large"` // bytes
	Small int64        `json:"small"`
	Dirty int64        `json:"dirty"` // bytes that were written before each restpoint
	Pairs []sparsePair `json:"pairs"`
}

// sparsePair is one comparison.
type sparsePair struct{ Large, Small system.Cycle }

// ratio is the time on the large disk against that on the small one.
func (p *sparsePair) ratio() float64 { return p.Large.Wall.Seconds() / p.Small.Wall.Seconds() }

// spread is a disk with one file that has its place on most of it, but whose blocks were never written.
type spread struct {
	*system.System
	disk   *loop.Device
	path   string
	length int64 // bytes of the file
}

// newSpread makes the first restpoint of an empty file system, so that the rest of the disk needs not be read, and then the file.
func (b *bench) newSpread(ctx context.Context, dir string, size int64) (_ *spread, err error) {
	s := &spread{path: filepath.Join(dir, "mnt", "data"), length: size / 8 * 7}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.disk, err = newMounted(ctx, dir, size); err != nil {
		return nil, err
	}
	if s.System, err = system.Start(ctx, b.o.bin, filepath.Join(dir, "system"), s.disk.Path, system.Options{Agent: b.o.agent}); err != nil {
		return nil, err
	}
	c, err := s.Sync(ctx)
	if err != nil {
		return nil, err
	}
	b.Say("%s: first restpoint in %.2f s", gib(size), c.Wall.Seconds())
	if err := reserveFile(s.path, s.length); err != nil {
		return nil, err
	}
	unix.Sync()
	if c, err = s.Sync(ctx); err != nil {
		return nil, err
	}
	return s, tracked(&c)
}

func reserveFile(path string, length int64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, length); err != nil {
		return fmt.Errorf("make file of %s: %w", gib(length), err)
	}
	return f.Sync()
}

// tracked returns an error when a restpoint was made by reading all of the disk.
func tracked(c *system.Cycle) error {
	for _, d := range c.Restpoint.Disks {
		if d.Tracker != "ebpf" {
			return fmt.Errorf("restpoint %s: disk %s was followed by %s, want ebpf", c.Restpoint.ID, d.Name, d.Tracker)
		}
	}
	return nil
}

// Close ends everything.
func (s *spread) Close() error {
	var err error
	if s.System != nil {
		err = s.System.Close()
	}
	if s.disk != nil {
		err = errors.Join(err, s.disk.Close())
	}
	return err
}

// change writes and makes a restpoint.
func (s *spread) change(ctx context.Context, dirty int64, seed uint64) (system.Cycle, error) {
	if err := load.Pieces(ctx, s.path, s.length, piece, int(dirty/piece), seed); err != nil {
		return system.Cycle{}, err
	}
	unix.Sync()
	c, err := s.Sync(ctx)
	if err != nil {
		return c, err
	}
	if changed := c.Restpoint.Disks[0].Changed; changed < dirty {
		return c, fmt.Errorf("restpoint %s holds %d changed bytes, %d were written", c.Restpoint.ID, changed, dirty)
	}
	return c, tracked(&c)
}

func (b *bench) sparse(ctx context.Context, dir string, res *results) (err error) {
	large, err := b.newSpread(ctx, filepath.Join(dir, "large"), b.o.large)
	if err != nil {
		return err
	}
	defer closing(large, &err)
	small, err := b.newSpread(ctx, filepath.Join(dir, "small"), b.o.small)
	if err != nil {
		return err
	}
	defer closing(small, &err)
	r := &sparse{Large: b.o.large, Small: b.o.small, Dirty: b.o.dirty}
	for i := range b.o.sparsePairs {
		if err := b.room(); err != nil {
			return err
		}
		var p sparsePair
		one := func(s *spread, to *system.Cycle) func() error {
			return func() (err error) {
				*to, err = s.change(ctx, b.o.dirty, uint64(i+1))
				return err
			}
		}
		if err := measure.Alternately(i, one(large, &p.Large), one(small, &p.Small)); err != nil {
			return err
		}
		b.Say("pair %d: %s %.2f s (agent's CPU %.2f s), %s %.2f s (%.2f s): %.3f", i+1, gib(r.Large), p.Large.Wall.Seconds(), p.Large.Agent.CPU.Seconds(),
			gib(r.Small), p.Small.Wall.Seconds(), p.Small.Agent.CPU.Seconds(), p.ratio())
		r.Pairs = append(r.Pairs, p)
		res.Sparse = r
	}
	return nil
}

// walls are the times of all pairs.
func (r *sparse) walls(of func(*sparsePair) time.Duration) []time.Duration {
	var list []time.Duration
	for i := range r.Pairs {
		list = append(list, of(&r.Pairs[i]))
	}
	return list
}
