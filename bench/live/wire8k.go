package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/bench/load"
	"github.com/openmigrate/openmigrate/bench/system"
	"github.com/openmigrate/openmigrate/chunker"
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

// cost is what was put for each byte that was written, in all rounds: most put patches, and now and then one puts chunks whole again.
func (v *variant) cost() float64 {
	var stored, written int64
	for _, r := range v.Rounds {
		stored, written = stored+r.Stored, written+r.Written
	}
	return float64(stored) / float64(max(written, 1))
}

// variants are the ways that are compared.
var variants = []struct {
	name string
	o    system.Options
}{
	{"patches", system.Options{}},
	{"whole chunks", system.Options{Agent: []string{"--whole-chunks"}}},
	{"patches, chunks of 64 KiB", system.Options{ChunkSize: 64 << 10}},
	{"whole chunks of 64 KiB", system.Options{ChunkSize: 64 << 10, Agent: []string{"--whole-chunks"}}},
}

// wire8k writes the same pages in each way.
func (b *bench) wire8k(ctx context.Context, dir string, res *results) error {
	for i, way := range variants {
		v := variant{Name: way.name}
		err := b.pages(ctx, filepath.Join(dir, strconv.Itoa(i)), way.o, &v)
		res.Wire8k = append(res.Wire8k, v)
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
	}
	return nil
}

// Before anything is measured settle pages are written for each chunk of the default size, because patches are made of chunks that were sent whole
// since they were first written in small pieces, and then come settleRounds, so that patches have all sizes.
const (
	settle       = 4
	settleRounds = 8
)

func (b *bench) pages(ctx context.Context, dir string, o system.Options, v *variant) (err error) {
	disk, err := b.newWritten(ctx, dir, b.o.wireFile*2, b.o.wireFile)
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
	for i := range 1 + settleRounds + b.o.wireRounds {
		n := int64(b.o.wireSize)
		if i == 0 {
			n = b.o.wireFile / chunker.DefaultSize * settle
		}
		r, err := b.page(ctx, s, disk, n, uint64(i))
		if err != nil {
			return err
		}
		b.Say("%s, round %d: %s written, %s of chunks changed, %s stored", v.Name, i-settleRounds, mb(r.Written), mb(r.Changed), mb(r.Stored))
		if i > settleRounds {
			v.Rounds = append(v.Rounds, r)
		}
	}
	return nil
}

// page writes n pages and makes a restpoint.
func (b *bench) page(ctx context.Context, s *system.System, disk *written, n int64, seed uint64) (paging, error) {
	w := load.Options{Path: disk.path, Size: b.o.wireFile, Block: pageSize, Seed: seed}
	if _, err := load.Run(ctx, w, n*pageSize); err != nil {
		return paging{}, err
	}
	unix.Sync()
	c, err := s.Sync(ctx)
	if err = errors.Join(err, b.room()); err != nil {
		return paging{}, err
	}
	return paging{n * pageSize, c.Restpoint.Disks[0].Changed, c.Restpoint.Stats.Stored}, tracked(&c)
}
