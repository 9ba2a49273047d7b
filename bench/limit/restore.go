package limit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/bench/disk"
	"github.com/openmigrate/openmigrate/chunker"
)

// Restore decompresses, verifies and writes the chunks of a cache to a new file at to: the least that a restore costs. With
// durable the file is on the disk below when the clock stops, as it is when an export ends, and is written out all the while;
// else some of it may still be in memory. The cache is brought into the page cache before the clock starts.
func Restore(ctx context.Context, cache, to string, durable bool) (_ Result, err error) {
	c, err := readList(cache + ".list")
	if err != nil {
		return Result{}, fmt.Errorf("measure limit: %w", err)
	}
	in, err := os.Open(cache)
	if err != nil {
		return Result{}, fmt.Errorf("measure limit: %w", err)
	}
	defer in.Close()
	if _, err := disk.Warm(ctx, cache); err != nil {
		return Result{}, err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return Result{}, fmt.Errorf("measure limit: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Truncate(c.Layout.Size); err != nil {
		return Result{}, fmt.Errorf("measure limit: %w", err)
	}
	r := restore{in: in, out: out, chunkSize: int64(c.Layout.ChunkSize), runs: c.runs(), flush: make(chan struct{}, 1)}
	var flusher sync.WaitGroup
	flusher.Go(func() {
		for range r.flush {
			if durable {
				_ = unix.SyncFileRange(int(out.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) // only makes the end come sooner
			}
		}
	})
	defer flusher.Wait()
	defer close(r.flush)
	res, err := timed(ctx, func(ctx context.Context) error {
		r.working.Add(1)
		err := r.work(ctx)
		if r.working.Add(-1) == 0 && durable && err == nil { // the last one
			return unix.Fdatasync(int(out.Fd()))
		}
		return err
	})
	res.Chunks, res.Unique, res.Stored, res.Read = r.chunks.Load(), r.unique.Load(), r.stored.Load(), r.stored.Load()
	return res, err
}

// restore is what the workers of a Restore share.
type restore struct {
	in, out   *os.File
	chunkSize int64
	runs      []run
	flush     chan struct{} // a token when there is something worth writing out

	next, working, chunks, unique, stored atomic.Int64
}

// flushRuns is how many runs are restored between two tokens: some 64 MiB.
const flushRuns = 32

func (r *restore) work(ctx context.Context) error {
	d, err := chunker.NewDecompressor()
	if err != nil {
		return err
	}
	h := chunker.NewHasher(&key)
	buf, dst := make([]byte, maxRun+chunker.MaxSize), make([]byte, 0, chunker.MaxSize)
	for {
		i := r.next.Add(1) - 1
		if i >= int64(len(r.runs)) || ctx.Err() != nil {
			return ctx.Err()
		}
		if i%flushRuns == flushRuns-1 {
			select {
			case r.flush <- struct{}{}:
			default:
			}
		}
		run := r.runs[i]
		b := buf[:run.bytes()]
		if _, err := r.in.ReadAt(b, run[0].Offset); err != nil {
			return err
		}
		for j := range run {
			it := &run[j]
			content, err := d.Decompress(dst, it.Codec, b[it.Offset-run[0].Offset:][:it.Stored], it.Raw)
			if err != nil {
				return err
			}
			if h.ID(content) != it.ID {
				return fmt.Errorf("chunk %s is damaged in the cache", it.ID)
			}
			for _, place := range it.Places {
				if _, err := r.out.WriteAt(content, place*r.chunkSize); err != nil {
					return err
				}
			}
			r.chunks.Add(1)
			r.unique.Add(int64(it.Raw))
			r.stored.Add(int64(it.Stored))
		}
	}
}
