package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/bench/disk"
	"github.com/openmigrate/openmigrate/bench/limit"
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/system"
)

// pair runs every comparison once.
func (b *bench) pair(ctx context.Context, round int) (_ *pair, err error) {
	p := &pair{}
	dir := b.path(fmt.Sprintf("pair-%d", round+1))
	defer removing(dir, &err)
	if err := b.ours(ctx, round, dir, p); err != nil {
		return nil, err
	}
	if b.o.wants("peers") {
		if p.Peers, err = b.peers(ctx, round, dir); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// ours measures this system against the limit: first replication, restore, second restpoint.
func (b *bench) ours(ctx context.Context, round int, dir string, p *pair) (err error) {
	s, err := system.Start(ctx, b.o.bin, filepath.Join(dir, "system"), b.disk.Path, system.Options{})
	if err != nil {
		return err
	}
	defer closing(s, &err)
	err = measure.Alternately(round, func() error { return b.limits(ctx, p) }, func() error { return b.first(ctx, s, p) })
	if err != nil {
		return err
	}
	if sent, unique := p.First.Restpoint.Stats.Sent, p.Limit.Unique; sent != unique {
		return fmt.Errorf("the agent sent %d bytes of chunks, the limit compressed %d: they are not comparable", sent, unique)
	}
	out := filepath.Join(dir, "export.img")
	if b.o.wants("restore") {
		if p.Restore, err = b.restore(ctx, round, s, p.First.Restpoint.ID, out, filepath.Join(dir, "system", "master", "staging")); err != nil {
			return err
		}
	}
	if b.o.wants("second") {
		if p.Second, err = b.second(ctx, round, s, out); err != nil {
			return err
		}
	}
	return nil
}

// limits runs the bare loops over the disk.
func (b *bench) limits(ctx context.Context, p *pair) error {
	for _, l := range []struct {
		name string
		to   **limit.Result
	}{{"scan", &p.Scan}, {"replicate", &p.Limit}} {
		if err := b.ready(ctx); err != nil {
			return err
		}
		res, err := b.runLimit(ctx, l.name, b.disk.Path)
		if err != nil {
			return err
		}
		*l.to = &res
		b.Say("limit, %s: %.2f s, CPU %.2f s", l.name, res.Wall.Seconds(), res.CPU.Seconds())
	}
	return nil
}

// first makes the first restpoint.
func (b *bench) first(ctx context.Context, s *system.System, p *pair) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	c, err := s.Sync(ctx)
	if err != nil {
		return err
	}
	p.First = &c
	b.Say("first replication: %.2f s, agent CPU %.2f s, server CPU %.2f s, agent's peak %d MiB", c.Wall.Seconds(), c.Agent.CPU.Seconds(), c.Server.CPU.Seconds(), c.Agent.Peak>>20)
	return nil
}

// restore exports a restpoint, compares it with the disk, and runs the bare loop that does the same.
func (b *bench) restore(ctx context.Context, round int, s *system.System, restpoint, out, objects string) (*restored, error) {
	r := &restored{}
	if b.cache == "" {
		cache := b.path("chunks")
		if _, err := b.runLimit(ctx, "prepare", b.disk.Path, cache); err != nil {
			return nil, err
		}
		b.cache = cache
	}
	ours := func() error {
		unix.Sync()
		if err := warmTree(ctx, objects); err != nil {
			return err
		}
		run, res, err := s.Export(ctx, restpoint, out)
		if err != nil {
			return err
		}
		r.Export, r.Fetched = run, res.Fetched
		b.Say("restore: %.2f s, CPU %.2f s", run.Wall.Seconds(), run.CPU.Seconds())
		return disk.Compare(ctx, b.disk.Path, out)
	}
	loop := func(name string, to *limit.Result) error {
		unix.Sync()
		target := b.path("limit.img")
		res, err := b.runLimit(ctx, name, b.cache, target)
		if err == nil && round == 0 {
			err = disk.Compare(ctx, b.disk.Path, target)
		}
		*to = res
		b.Say("limit, %s: %.2f s, CPU %.2f s", name, res.Wall.Seconds(), res.CPU.Seconds())
		return errors.Join(err, os.Remove(target))
	}
	return r, measure.Alternately(round, func() error {
		return errors.Join(loop("restore-durable", &r.Limit), loop("restore", &r.Fast))
	}, ours)
}

// second changes a hundredth of the disk, makes another restpoint, checks it, and changes the disk back.
func (b *bench) second(ctx context.Context, round int, s *system.System, out string) (_ *second, err error) {
	changes, err := disk.Change(b.disk.Path, b.disk.Size/100, uint64(round+1))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, changes.Undo()) }()
	r := &second{Changed: changes.Bytes()}
	cat := func() error {
		if err := b.ready(ctx); err != nil {
			return err
		}
		if r.Cat, err = catTwice(ctx, b.disk.Path); err != nil {
			return err
		}
		r.Cached, err = b.catCached(ctx)
		b.Say("cat: %.2f s; at the speed of a file in the page cache %.2f s", r.Cat.Seconds(), r.Cached.Seconds())
		return err
	}
	sync := func() error {
		if err := b.ready(ctx); err != nil {
			return err
		}
		r.Cycle, err = s.Sync(ctx)
		b.Say("second restpoint: %.2f s, agent CPU %.2f s", r.Cycle.Wall.Seconds(), r.Cycle.Agent.CPU.Seconds())
		return err
	}
	if err := measure.Alternately(round, cat, sync); err != nil {
		return nil, err
	}
	// Onto the first one, if that was restored: then only the difference is written.
	if _, _, err := s.Export(ctx, r.Cycle.Restpoint.ID, out); err != nil {
		return nil, err
	}
	return r, disk.Compare(ctx, b.disk.Path, out)
}

// catTwice is the quicker of two `cat disk > /dev/null`: the first one makes the pages of holes.
func catTwice(ctx context.Context, path string) (time.Duration, error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	best := time.Duration(0)
	for range 2 {
		cmd, err := measure.Tool(ctx, "cat", path)
		if err != nil {
			return 0, err
		}
		cmd.Stdout = null
		run, _, err := measure.Command(cmd)
		if err != nil {
			return 0, err
		}
		if best == 0 || run.Wall < best {
			best = run.Wall
		}
	}
	return best, nil
}

// residentSize is the length in bytes of a file that fits into any page cache.
const residentSize = 1 << 30

// catCached is how long cat would take for the disk at the speed at which it reads a file that has no holes and is in the page cache.
func (b *bench) catCached(ctx context.Context) (_ time.Duration, err error) {
	path := b.path("resident.img")
	defer removing(path, &err)
	size := min(residentSize, b.disk.Size)
	if err := disk.Sparse(path, size, size, 1, 1); err != nil {
		return 0, err
	}
	wall, err := catTwice(ctx, path)
	return time.Duration(wall.Seconds() * float64(b.disk.Size) / float64(size) * float64(time.Second)), err
}

// warmTree brings all files below dir into the page cache.
func warmTree(ctx context.Context, dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			_, err = disk.Warm(ctx, path)
		}
		return err
	})
}
