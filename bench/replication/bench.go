package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/bench/disk"
	"github.com/openmigrate/openmigrate/bench/measure"
)

// bench is a run. One goroutine uses it.
type bench struct {
	o     *options
	work  string
	disk  disk.Image // a copy that may be changed
	cache string     // of compressed chunks, for the limit of restores
	began time.Time
}

// newBench checks what is needed and makes the work folder.
func newBench(_ context.Context, o *options) (*bench, error) {
	for _, program := range []string{"openmigrate", "openmigrate-agent"} {
		if _, err := os.Stat(filepath.Join(o.bin, program)); err != nil {
			return nil, fmt.Errorf("find programs (make build makes them): %w", err)
		}
	}
	b := &bench{o: o, began: time.Now()}
	parent := o.cache
	if o.work != "" {
		parent = o.work
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("make work folder: %w", err)
	}
	var err error
	if b.work, err = os.MkdirTemp(parent, "run-"); err != nil {
		return nil, fmt.Errorf("make work folder: %w", err)
	}
	return b, nil
}

// close removes the work folder.
func (b *bench) close() error {
	if b.o.keep {
		b.say("kept %s", b.work)
		return nil
	}
	return os.RemoveAll(b.work)
}

// say tells what is going on.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// path is a path in the work folder.
func (b *bench) path(name string) string { return filepath.Join(b.work, name) }

func (b *bench) run(ctx context.Context) (*results, error) {
	res := &results{Machine: measure.ThisMachine(b.began), Versions: map[string]string{}}
	image, err := disk.Build(ctx, b.o.cache, disk.Default(b.o.size, b.o.source), b.say)
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
			b.say("warning: %s of data and %s of memory: the page cache cannot hold what it should", gib(b.disk.Data), gib(available))
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
