// Package view lets programs read the disks of a restpoint at any place, without restoring them: what is asked for is fetched then, and
// kept for a while.
//
//	ReadAt ─► ids of the chunks (tree nodes, fetched on demand) ─► zeros, or chunks in memory
//	                                                               └► on disk, checked again ─► from staging, with what follows
//
// It keeps two invariants. A byte is returned only after the chunk that it is in was compared with the id that the signed tree has at that
// place. Memory for chunks stays within Options.Memory, whoever reads: a reader waits until what it needs fits, and holds nothing while
// it waits. Each chunk is fetched once for all who wait for it.
//
// A View and its disks may be used by any number of goroutines at once.
package view

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/reader"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging/format"
)

// ErrClosed: the view was closed, or its context ended.
var ErrClosed = errors.New("view is closed")

// Options change a View. The zero value is good for one person who looks around.
type Options struct {
	Memory    int64        // bytes of decoded chunks; 0: 128 MiB; at least 8 chunks
	ReadAhead int64        // bytes fetched ahead of who reads in order; 0: 16 MiB; below 0: none; at most a quarter of Memory
	CacheDir  string       // folder for chunks that memory has no room for; empty: none. See CacheSize
	CacheSize int64        // bytes of the file in CacheDir, which has no name and goes with the process; 0: 1 GiB
	Log       *slog.Logger // of chunks that cannot be read; nil: slog.Default
	Clock     clock.Clock  // nil: the system's
}

const (
	defaultMemory    = 128 << 20
	defaultReadAhead = 16 << 20
	defaultCacheSize = 1 << 30
	minChunks        = 8 // of the largest size fit into memory
)

// View is a restpoint's disks.
type View struct {
	r       *reader.Reader
	log     *slog.Logger
	cache   *cache
	spill   *spill // nil: none
	bad     badList
	disks   []*Disk
	hashers sync.Pool     // of *chunker.Hasher
	ahead   chan struct{} // a token for each fetch ahead
	ctx     context.Context
	cancel  context.CancelCauseFunc

	mu     sync.Mutex
	closed bool           // guarded by mu
	work   sync.WaitGroup // fetches; nothing is added once closed
}

// New makes a View of rp, whose signatures were checked (reader.OpenRestpoint). Reads fail when ctx ends, with its cause. Close it before r.
func New(ctx context.Context, r *reader.Reader, rp *format.Restpoint, o *Options) (*View, error) {
	if o == nil {
		o = &Options{}
	}
	largest := 0
	for i := range rp.Disks {
		if err := rp.Disks[i].Layout().Check(); err != nil {
			return nil, fmt.Errorf("view disk %d of restpoint %s: %w", i, rp.ID, err)
		}
		largest = max(largest, rp.Disks[i].ChunkSize)
	}
	memory := max(orDefault(o.Memory, defaultMemory), int64(minChunks*largest))
	v := &View{r: r, log: o.Log, cache: newCache(memory), ahead: make(chan struct{}, maxAhead)}
	if v.log == nil {
		v.log = slog.Default()
	}
	v.bad.clock = o.Clock
	if v.bad.clock == nil {
		v.bad.clock = clock.Real{}
	}
	v.hashers.New = func() any { return chunker.NewHasher(r.Keys().ChunkKey()) }
	if o.CacheDir != "" && largest > 0 {
		var err error
		if v.spill, err = newSpill(o.CacheDir, largest, orDefault(o.CacheSize, defaultCacheSize)); err != nil {
			return nil, err
		}
	}
	v.ctx, v.cancel = context.WithCancelCause(ctx)
	readAhead := min(orDefault(o.ReadAhead, defaultReadAhead), memory/4)
	for i := range rp.Disks {
		v.disks = append(v.disks, newDisk(v, &rp.Disks[i], memory/4, readAhead))
	}
	return v, nil
}

func orDefault(n, def int64) int64 {
	if n == 0 {
		return def
	}
	return n
}

// Disks are the restpoint's, in order.
func (v *View) Disks() []*Disk { return v.disks }

// Close ends all reads and waits for what is under way.
func (v *View) Close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.cancel(ErrClosed)
	v.work.Wait()
	if v.spill != nil {
		v.spill.close()
	}
}

// start runs fn unless the view is closed.
func (v *View) start(fn func()) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false
	}
	v.work.Go(fn)
	return true
}

// badList remembers for a while what staging has no usable copy of, so that a program that tries again and again
// does not make as many requests. Later the chunk may have been sent anew.
type badList struct {
	clock clock.Clock
	mu    sync.Mutex
	m     map[chunker.ID]badChunk // guarded by mu
}

type badChunk struct {
	err   error
	until time.Time
}

const (
	maxBad  = 4096
	badTime = 30 * time.Second
)

func (b *badList) get(id chunker.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.m[id]
	if ok && b.clock.Now().After(c.until) {
		delete(b.m, id)
		return nil
	}
	return c.err
}

func (b *badList) add(id chunker.ID, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil || len(b.m) >= maxBad {
		b.m = map[chunker.ID]badChunk{}
	}
	b.m[id] = badChunk{err, b.clock.Now().Add(badTime)}
}
