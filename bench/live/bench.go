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

	"github.com/openmigrate/openmigrate/bench/load"
	"github.com/openmigrate/openmigrate/bench/loop"
	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/program"
)

// bench is a run. One goroutine uses it.
type bench struct {
	o *options
	program.Work
}

// newBench checks what is needed and makes the work folder.
func newBench(o *options) (*bench, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("root is needed, for loop devices, mounts and eBPF: run it with sudo")
	}
	for _, program := range []string{"openmigrate", "openmigrate-agent"} {
		if _, err := os.Stat(filepath.Join(o.bin, program)); err != nil {
			return nil, fmt.Errorf("find programs (make build makes them): %w", err)
		}
	}
	b := &bench{o: o}
	var err error
	if b.Work, err = program.NewWork(o.dir, "live-", o.keep); err != nil {
		return nil, err
	}
	return b, nil
}

// run runs the sections, each in a folder of its own. One that fails does not keep the others from being measured.
func (b *bench) run(ctx context.Context) (*results, error) {
	res := &results{Machine: measure.ThisMachine(b.Began)}
	run := map[string]func(ctx context.Context, dir string, res *results) error{
		"freeze": b.freeze, "throughput": b.throughput, "sparse": b.sparse, "rpo": b.rpo, "wire8k": b.wire8k,
	}
	var failed error
	for _, name := range sections {
		if !b.o.wants(name) || ctx.Err() != nil {
			continue
		}
		b.Say("%s", name)
		if err := b.section(ctx, name, res, run[name]); err != nil {
			b.Say("%s failed: %v", name, err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
		}
	}
	if failed == nil {
		failed = ctx.Err()
	}
	return res, failed
}

func (b *bench) section(ctx context.Context, name string, res *results, run func(context.Context, string, *results) error) (err error) {
	dir := filepath.Join(b.Dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if !b.o.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	return run(ctx, dir, res)
}

// written is a file in a mounted file system on a device of its own.
type written struct {
	*loop.Device
	path string
}

// newWritten makes a disk of size bytes with a file of length bytes, all of which holds data.
func (b *bench) newWritten(ctx context.Context, dir string, size, length int64) (_ *written, err error) {
	d, err := newMounted(ctx, dir, size)
	if err != nil {
		return nil, err
	}
	w := &written{d, filepath.Join(dir, "mnt", "data")}
	if err := load.Fill(ctx, w.path, length, 1); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	unix.Sync() // what is measured next is not to wait for it
	b.Say("ext4 of %s with a file of %s on %s", gib(size), gib(length), d.Path)
	return w, nil
}

// newMounted makes the file dir/disk a device with an empty file system, mounted on dir/mnt.
func newMounted(ctx context.Context, dir string, size int64) (*loop.Device, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	d, err := loop.Attach(filepath.Join(dir, "disk"), size)
	if err != nil {
		return nil, err
	}
	if err := d.Ext4(ctx, filepath.Join(dir, "mnt")); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// reserve is what is left of the disk when a section stops, in bytes.
const reserve = 4 << 30

// room returns an error when the work folder's disk is nearly full.
func (b *bench) room() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(b.Dir, &fs); err != nil {
		return fmt.Errorf("look for space in %s: %w", b.Dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < reserve {
		return fmt.Errorf("%s has only %s left: stopped; name a larger disk with --dir, or measure for less long", b.Dir, gib(free))
	}
	return nil
}

// sleep waits unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closing closes what is done with, and joins the errors.
func closing(c io.Closer, err *error) { *err = errors.Join(*err, c.Close()) }
