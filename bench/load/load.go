// Package load writes blocks to random places of a file at a steady rate, as a database does, and notes when a write was kept waiting.
//
// Every block that is written is unlike all before it, and half of it compresses to nothing. One goroutine of the Writer's own writes;
// its methods may be called by any. Linux only.
package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/aligned"
)

// syncEvery is how often a writer through the page cache makes its writes durable.
const syncEvery = 100 * time.Millisecond

// Options say what to write where.
type Options struct {
	Path     string // of a file or device
	Size     int64  // bytes of it, from its start, that are written over; it must be that long
	Block    int    // bytes of one write, a multiple of aligned.Size, at multiples of itself
	Rate     int64  // bytes per second; 0: as fast as it goes
	Buffered bool   // through the page cache, with fdatasync every 100 ms; else past it
	Seed     uint64
}

// Writer writes until it is stopped.
type Writer struct {
	bytes  atomic.Int64
	stalls stalls
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed
}

// Start begins to write. The file stays open until Stop.
func Start(ctx context.Context, o Options) (*Writer, error) {
	t, err := open(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &Writer{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = errors.Join(w.run(ctx, t), t.f.Close())
	}()
	return w, nil
}

// Run writes n bytes and returns how long that took.
func Run(ctx context.Context, o Options, n int64) (_ time.Duration, err error) {
	t, err := open(o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.f.Close()) }()
	began := time.Now()
	for ; n > 0; n -= int64(o.Block) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := t.write(); err != nil {
			return 0, err
		}
	}
	if o.Buffered {
		err = t.sync()
	}
	return time.Since(began), err
}

func (w *Writer) run(ctx context.Context, t *target) error {
	runtime.LockOSThread() // a write that waits shall not wait for the scheduler afterwards
	defer runtime.UnlockOSThread()
	limit := pace{rate: t.o.Rate}
	synced := time.Now()
	for {
		if wait := limit.next(time.Now(), t.o.Block); wait > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		from := time.Now()
		err := t.write()
		if t.o.Buffered && err == nil && from.Sub(synced) >= syncEvery {
			err, synced = t.sync(), from
		}
		w.stalls.add(from, time.Now())
		if err != nil {
			return err
		}
		w.bytes.Add(int64(t.o.Block))
	}
}

// Written is how many bytes were written so far.
func (w *Writer) Written() int64 { return w.bytes.Load() }

// Stall is how long the write took that took longest of those under way at any moment between from and to. One that still is does not
// count; less than a millisecond is 0.
func (w *Writer) Stall(from, to time.Time) time.Duration { return w.stalls.longest(from, to) }

// Failed is closed when the writer has ended; before Stop that is a failure.
func (w *Writer) Failed() <-chan struct{} { return w.done }

// Stop ends the writer and returns why it failed, if it has.
func (w *Writer) Stop() error {
	w.cancel()
	<-w.done
	return w.err
}

// target is the open file and the block that is written next.
type target struct {
	o      Options
	f      *os.File
	block  []byte
	places int64
	random *rand.Rand
}

func open(o Options) (*target, error) {
	if o.Block <= 0 || o.Block%aligned.Size != 0 || o.Size < int64(o.Block) {
		return nil, fmt.Errorf("write load: blocks of %d bytes in %d: want a multiple of %d, and place for one", o.Block, o.Size, aligned.Size)
	}
	flags := os.O_WRONLY
	if !o.Buffered {
		flags |= unix.O_DIRECT
	}
	f, err := os.OpenFile(o.Path, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("write load: %w", err)
	}
	return &target{o: o, f: f, block: aligned.Buffer(o.Block), places: o.Size / int64(o.Block), random: rand.New(rand.NewPCG(o.Seed, 0))}, nil
}

func (t *target) write() error {
	fill(t.block, t.random)
	if _, err := t.f.WriteAt(t.block, t.random.Int64N(t.places)*int64(len(t.block))); err != nil {
		return fmt.Errorf("write load: %w", err)
	}
	return nil
}

func (t *target) sync() error {
	if err := unix.Fdatasync(int(t.f.Fd())); err != nil {
		return fmt.Errorf("write load: %w", &os.PathError{Op: "fdatasync", Path: t.o.Path, Err: err})
	}
	return nil
}

// fill makes the content of a block: each half page of random bytes is followed by one of the same eight bytes again and again.
func fill(b []byte, r *rand.Rand) {
	const half = aligned.Size / 2
	for off := 0; off < len(b); off += 8 {
		if off%aligned.Size <= half {
			binary.LittleEndian.PutUint64(b[off:], r.Uint64())
		} else {
			copy(b[off:off+8], b[off-8:off])
		}
	}
}
