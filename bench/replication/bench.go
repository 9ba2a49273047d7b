package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/bench/disk"
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/program"
)

// bench is a run. One goroutine uses it.
type bench struct {
	o *options
	program.Work
	disk  disk.Image // a copy that may be changed
	cache string     // of compressed chunks, for the limit of restores
}

// newBench checks what is needed and makes the work folder.
func newBench(_ context.Context, o *options) (*bench, error) {
	for _, program := range []string{"openmigrate", "openmigrate-agent"} {
		if _, err := os.Stat(filepath.Join(o.bin, program)); err != nil {
			return nil, fmt.Errorf("find programs (make build makes them): %w", err)
		}
	}
	b := &bench{o: o}
	parent := o.cache
	if o.work != "" {
		parent = o.work
	}
	var err error
	if b.Work, err = program.NewWork(parent, "run-", o.keep); err != nil {
		return nil, err
	}
	return b, nil
}

// path is a path in the work folder.
func (b *bench) path(name string) string { return filepath.Join(b.Dir, name) }

func (b *bench) run(ctx context.Context) (*results, error) {
	res := &results{Machine: measure.ThisMachine(b.Began), Versions: map[string]string{}}
	image, err := disk.Build(ctx, b.o.cache, disk.Default(b.o.size, b.o.source), b.Say)
	if err != nil {
		return nil, err
	}
	res.Size, res.Data = image.Size, image.Data
	if b.o.wants("first") || b.o.wants("requests") {
		if err := disk.Copy(ctx, image.Path, b.path("disk.img")); err != nil {
			return nil, err
		}
		if b.disk, err = disk.Open(b.path("disk.img")); err != nil {
			return nil, err
		}
		if available, err := measure.Available(); err == nil && available < b.disk.Data*3/2 {
			b.Say("warning: %s of data and %s of memory: the page cache cannot hold what it should", gib(b.disk.Data), gib(available))
		}
	}
	b.askVersions(ctx, res)
	if b.o.wants("first") {
		for i := range b.o.pairs {
			p, err := b.pair(ctx, i)
			if err != nil {
				return nil, fmt.Errorf("pair %d: %w", i+1, err)
			}
			res.Pairs = append(res.Pairs, p)
		}
	}
	if b.o.wants("requests") {
		if res.Requests, err = b.countRequests(ctx); err != nil {
			return nil, fmt.Errorf("count requests: %w", err)
		}
	}
	if b.o.wants("huge") {
		if res.Huge, err = b.hugeDisk(ctx); err != nil {
			return nil, fmt.Errorf("huge disk: %w", err)
		}
	}
	return res, nil
}

// ready makes all runs start alike: nothing is left to be written, and the disk is in the page cache.
func (b *bench) ready(ctx context.Context) error {
	unix.Sync()
	_, err := disk.Warm(ctx, b.disk.Path)
	return err
}

// removing removes a path when what used it is done, and joins the errors.
func removing(path string, err *error) { *err = errors.Join(*err, os.RemoveAll(path)) }

// closing closes what is done with, and joins the errors.
func closing(c io.Closer, err *error) { *err = errors.Join(*err, c.Close()) }
