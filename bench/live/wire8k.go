package main

import (
	"context"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/bench/load"
	"github.com/openmigrate/openmigrate/bench/system"
)

// pageSize is what a database writes at once, in bytes.
const pageSize = 8 << 10

// variant is one way to put what a writer of pages left behind into staging.
type variant struct {
	Name   string   `json:"name"`
	Rounds []paging `json:"rounds"`
}

// paging is one restpoint after random writes. Sizes are in bytes.
type paging struct {
	Written int64 `json:"written"`
	Changed int64 `json:"changed"` // chunks
	Stored  int64 `json:"stored"`  // put into staging
}

// cost is what was put for each byte that was written.
func (v *variant) cost() (list []float64) {
	for _, r := range v.Rounds {
		list = append(list, float64(r.Stored)/float64(r.Written))
	}
	return list
}

func (b *bench) wire8k(ctx context.Context, dir string, res *results) error {
	for _, v := range []struct {
		name string
		o    system.Options
	}{
		{"as the agent does it by itself", system.Options{}},
		{"chunks of 64 KiB", system.Options{ChunkSize: 64 << 10}},
	} {
		var err error
		res.Wire8k = append(res.Wire8k, variant{Name: v.name})
		if err = b.pages(ctx, filepath.Join(dir, v.name), v.o, &res.Wire8k[len(res.Wire8k)-1]); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) pages(ctx context.Context, dir string, o system.Options, v *variant) (err error) {
	disk, err := b.newWritten(ctx, dir, b.o.disk, b.o.file)
	if err != nil {
		return err
	}
	defer closing(disk, &err)
	s, err := system.Start(ctx, b.o.bin, filepath.Join(dir, "system"), disk.Path, o)
	if err != nil {
		return err
	}
	defer closing(s, &err)
	if _, err := s.Sync(ctx); err != nil {
		return err
	}
	for i := range b.o.wireRounds {
		written := int64(b.o.wireSize) * pageSize
		w := load.Options{Path: disk.path, Size: b.o.file, Block: pageSize, Seed: uint64(i + 1)}
		if _, err := load.Run(ctx, w, written); err != nil {
			return err
		}
		unix.Sync()
		c, err := s.Sync(ctx)
		if err != nil {
			return err
		}
		if err := tracked(&c); err != nil {
			return err
		}
		r := paging{written, c.Restpoint.Disks[0].Changed, c.Restpoint.Stats.Stored}
		b.say("%s: %s written, %s of chunks changed, %s stored, %.2f s", v.Name, mb(r.Written), mb(r.Changed), mb(r.Stored), c.Wall.Seconds())
		v.Rounds = append(v.Rounds, r)
		if err := b.room(); err != nil {
			return err
		}
	}
	return nil
}
