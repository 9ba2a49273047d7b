// Package limit measures what this machine can do at most: bare loops over the same chunks that replication and restore
// go through, on all cores, with nothing around them. No network, no encryption, no index, no order.
//
// Each loop is meant to run in a process of its own, so that its CPU seconds are its own, on files that are in the page cache. One
// loop at a time. Linux only.
package limit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openmigrate/openmigrate/bench/disk"
	"github.com/openmigrate/openmigrate/chunker"
)

// Result is what a loop did. Sizes are in bytes.
type Result struct {
	Wall   time.Duration `json:"wall"`
	CPU    time.Duration `json:"cpu"` // user and system
	Read   int64         `json:"read"`
	Zero   int64         `json:"zero"`   // of Read, in chunks that are all zero
	Chunks int64         `json:"chunks"` // different ones that are not zero
	Unique int64         `json:"unique"` // bytes of these
	Stored int64         `json:"stored"` // bytes of these as compressed
}

// key is as good as any other: speed does not depend on it.
var key = chunker.Key{'b', 'e', 'n', 'c', 'h'}

// span is how much is read with one call, in bytes.
const span = 1 << 20

// piece is one read: whole chunks, of which the first is First.
type piece struct {
	first int64
	count int
}

// pieces lists the reads that cover all chunks with data in them.
func pieces(f *os.File, chunkSize int) ([]piece, chunker.Layout, error) {
	extents, size, err := disk.Extents(f)
	if err != nil {
		return nil, chunker.Layout{}, err
	}
	layout := chunker.Layout{Size: size, ChunkSize: chunkSize}
	if chunkSize == 0 {
		layout.ChunkSize = chunker.SizeFor(size)
	}
	if err := layout.Check(); err != nil {
		return nil, layout, err
	}
	each := max(1, span/int64(layout.ChunkSize))
	var list []piece
	next := int64(0)
	for _, e := range extents {
		last := (e.Offset + e.Length + int64(layout.ChunkSize) - 1) / int64(layout.ChunkSize)
		for next = max(next, e.Offset/int64(layout.ChunkSize)); next < last; {
			n := min(each, last-next)
			list = append(list, piece{next, int(n)})
			next += n
		}
	}
	return list, layout, nil
}

// loop calls work for all pieces of a disk, on all cores. start makes what one core needs.
func loop(ctx context.Context, path string, chunkSize int, start func() (func(index int64, content []byte) error, error)) (Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return Result{}, fmt.Errorf("measure limit: %w", err)
	}
	defer f.Close()
	list, layout, err := pieces(f, chunkSize)
	if err != nil {
		return Result{}, fmt.Errorf("measure limit: %w", err)
	}
	var read, next atomic.Int64
	res, err := timed(ctx, func(ctx context.Context) error {
		work, err := start()
		if err != nil {
			return err
		}
		buf := make([]byte, max(span, layout.ChunkSize))
		for {
			i := next.Add(1) - 1
			if i >= int64(len(list)) || ctx.Err() != nil {
				return ctx.Err()
			}
			p := list[i]
			off, _ := layout.Extent(p.first)
			b := buf[:min(int64(p.count)*int64(layout.ChunkSize), layout.Size-off)]
			if _, err := f.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			read.Add(int64(len(b)))
			for c := range p.count {
				_, n := layout.Extent(p.first + int64(c))
				if err := work(p.first+int64(c), b[c*layout.ChunkSize:][:n]); err != nil {
					return err
				}
			}
		}
	})
	res.Read = read.Load()
	return res, err
}

// timed runs work on every core and measures it.
func timed(ctx context.Context, work func(ctx context.Context) error) (Result, error) {
	runtime.GC()
	before, err := cpu()
	if err != nil {
		return Result{}, err
	}
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error { return work(ctx) })
	}
	if err := group.Wait(); err != nil {
		return Result{}, fmt.Errorf("measure limit: %w", err)
	}
	wall := time.Since(began)
	after, err := cpu()
	return Result{Wall: wall, CPU: after - before}, err
}

// cpu is what this process has used so far.
func cpu() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("measure limit: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// set remembers ids.
type set struct {
	mu   sync.Mutex
	seen map[chunker.ID]struct{}
}

// add reports whether id is new.
func (s *set) add(id chunker.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.seen)
	s.seen[id] = struct{}{}
	return len(s.seen) > n
}

// Scan reads, zero-tests and hashes: the least that a full scan of an unchanged disk costs. ChunkSize 0 is the default for
// the disk's size.
func Scan(ctx context.Context, path string, chunkSize int) (Result, error) {
	return first(ctx, path, chunkSize, false)
}

// Replicate reads, zero-tests, hashes, and compresses each different chunk once: the least that a first replication costs.
func Replicate(ctx context.Context, path string, chunkSize int) (Result, error) {
	return first(ctx, path, chunkSize, true)
}

func first(ctx context.Context, path string, chunkSize int, compress bool) (Result, error) {
	var zero, chunks, unique, stored atomic.Int64
	known := set{seen: make(map[chunker.ID]struct{})}
	res, err := loop(ctx, path, chunkSize, func() (func(int64, []byte) error, error) {
		c, err := chunker.NewCompressor()
		if err != nil {
			return nil, err
		}
		h := chunker.NewHasher(&key)
		dst := make([]byte, 0, chunker.MaxSize+chunker.MaxSize/64)
		return func(_ int64, content []byte) error {
			if chunker.IsZero(content) {
				zero.Add(int64(len(content)))
				return nil
			}
			id := h.NonZeroID(content)
			if !known.add(id) {
				return nil
			}
			chunks.Add(1)
			unique.Add(int64(len(content)))
			if compress {
				out, _ := c.Compress(dst, content)
				stored.Add(int64(len(out)))
			}
			return nil
		}, nil
	})
	res.Zero, res.Chunks, res.Unique, res.Stored = zero.Load(), chunks.Load(), unique.Load(), stored.Load()
	return res, err
}
