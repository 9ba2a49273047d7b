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
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/program"
)

// bench is a run. One goroutine uses it.
type bench struct {
	o *options
	program.Work
}

func newBench(o *options) (*bench, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("converting a disk needs root: mounts and loop devices")
	}
	b := &bench{o: o}
	parent := o.cache
	if o.work != "" {
		parent = o.work
	}
	var err error
	if b.Work, err = program.NewWork(parent, "conversion-", o.keep); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *bench) run(ctx context.Context) (*results, error) {
	image, err := b.source(ctx)
	if err != nil {
		return nil, err
	}
	p, err := b.preparePeer(ctx)
	if err != nil {
		return nil, err
	}
	if b.o.prepare {
		return nil, nil
	}
	res := &results{Peer: p.version}
	res.Machine = measure.ThisMachine(time.Now())
	if res.Before, err = b.start(ctx, image, filepath.Join(b.Dir, "before.console")); err != nil {
		return nil, err
	}
	b.Say("the disk as it is: %s", res.Before)
	for i := range b.o.pairs {
		pair := &pair{}
		us := func() (err error) {
			pair.Ours, err = b.one(ctx, image, "ours", func(disk string) (measure.Run, error) { return ours(ctx, disk) })
			return err
		}
		them := func() (err error) {
			pair.Peer, err = b.one(ctx, image, "virt-v2v-in-place", func(disk string) (measure.Run, error) { return p.convert(ctx, disk) })
			return err
		}
		if err := measure.Alternately(i, us, them); err != nil {
			return nil, fmt.Errorf("pair %d: %w", i+1, err)
		}
		res.Pairs = append(res.Pairs, pair)
	}
	return res, nil
}

// one converts a copy of the image and starts it. Nothing is left to be written when the time begins, and the copy is in the page cache.
func (b *bench) one(ctx context.Context, image, name string, convert func(disk string) (measure.Run, error)) (c converted, err error) {
	dir, err := os.MkdirTemp(b.Dir, name+"-")
	if err != nil {
		return c, err
	}
	path := filepath.Join(dir, "disk.img")
	if err := disk.Copy(ctx, image, path); err != nil {
		return c, err
	}
	unix.Sync()
	if _, err := disk.Warm(ctx, path); err != nil {
		return c, err
	}
	c.Run, err = convert(path)
	if err != nil {
		// That it fails is a result; the machine is started all the same.
		c.Error = err.Error()
	}
	b.Say("%s: %.1f s, CPU %.1f s %s", name, c.Wall.Seconds(), c.CPU.Seconds(), c.Error)
	if c.Boot, err = b.start(ctx, path, filepath.Join(dir, "console")); err != nil {
		return c, err
	}
	b.Say("%s: %s", name, c.Boot)
	if b.o.keep {
		return c, nil
	}
	return c, os.RemoveAll(dir)
}
