// Package reader gets restpoints out of staging for whoever holds a job. It keeps one invariant: content that it gives out has
// been authenticated and hashed, and is what its id says. Everything else (where an id is stored, what a URL leads to, what the
// bucket answers) comes from parties that may be wrong or hostile, and costs at most an error.
//
//	wants ─► resolve in batches ─► group what is adjacent ─► GET ranges, some at a time ─► open, verify ─► deliver
//	                                                                                       └► again, elsewhere ─► damaged
//
// A patch is opened over its base, which is fetched with it, and verified by itself.
//
// Memory is what Options says: Buffers of MaxGet bytes (8 MiB at least), and two chunks for each worker. A Reader may be used by any number of
// goroutines at once.
package reader

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/internal/clock"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// Master is what a reader asks of the master on behalf of its job.
type Master interface {
	// Resolve says where ids are stored; one Location for each, in order. At most wire.MaxOffer ids.
	Resolve(ctx context.Context, job string, ids []chunker.ID) ([]wire.Location, error)
	// URLs gives the right to GET packs; one URL for each, in order. At most wire.MaxURLs packs.
	URLs(ctx context.Context, job string, r *wire.URLRequest) (*wire.URLResponse, error)
	// Quarantine reports stored copies that cannot be used, so that Resolve no longer names them.
	Quarantine(ctx context.Context, job string, damage []wire.Damage) error
}

// Options change how a Reader reads. The zero value is good for two cores and a server nearby.
type Options struct {
	MasterKey ed25519.PublicKey // when set, the only key whose countersignature is accepted
	Clock     clock.Clock       // nil: the system's
	MaxGet    int               // bytes of one GET; 0: 8 MiB, at least a chunk
	MaxGap    int               // bytes between two entries that are read and dropped to save a request; 0: 64 KiB
	Buffers   int               // GETs that are held in memory at once; 0: 10
	Workers   int               // goroutines that open and deliver; 0: three per core, since delivery waits for disks
	Attempts  int               // of one GET that fails for a reason that may pass; 0: 6
	Backoff   time.Duration     // before the second attempt, doubled each time; 0: 200 ms
	Timeout   time.Duration     // of one attempt; 0: 2 minutes
}

const (
	defaultMaxGet = 8 << 20
	defaultMaxGap = 64 << 10
)

func (o *Options) fill() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.MaxGet, defaultMaxGet)
	o.MaxGet = max(o.MaxGet, chunker.MaxSize+tagSize)
	def(&o.MaxGap, defaultMaxGap)
	def(&o.Buffers, 10)
	def(&o.Workers, 3*runtime.GOMAXPROCS(0))
	def(&o.Attempts, 6)
	if o.Backoff <= 0 {
		o.Backoff = 200 * time.Millisecond
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
}

// Reader reads for one job.
type Reader struct {
	job     string
	master  Master
	keys    *format.Keys
	opts    Options
	get     *staging.SignedClient
	fetched atomic.Int64
	urls    *urlCache
	nodes   *nodeCache
	buffers chan []byte // free ones; nil: not made yet
	openers sync.Pool   // of *format.Opener
	missing packSet     // packs that are not in the bucket
}

// New makes a Reader for job. Close it when done.
func New(job *wire.Job, m Master, o *Options) (*Reader, error) {
	keys, err := format.UnmarshalKeys(job.Keys)
	if err != nil {
		return nil, fmt.Errorf("read keys of job %s: %w", job.ID, err)
	}
	r := &Reader{job: job.ID, master: m, keys: keys}
	if o != nil {
		r.opts = *o
	}
	r.opts.fill()
	if len(job.StagingHosts) == 0 {
		return nil, fmt.Errorf("read staging: job %s names no staging host", job.ID)
	}
	if r.get, err = staging.NewSignedClient(job.StagingHosts, job.StagingCA); err != nil {
		return nil, err
	}
	r.urls = newURLCache(r.opts.Clock)
	r.nodes = newNodeCache()
	r.buffers = make(chan []byte, r.opts.Buffers)
	for range r.opts.Buffers {
		r.buffers <- nil
	}
	return r, nil
}

// Close lets go of connections.
func (r *Reader) Close() { r.get.Close() }

// Keys are the project's.
func (r *Reader) Keys() *format.Keys { return r.keys }

// Fetched is the number of bytes that were read from staging.
func (r *Reader) Fetched() int64 { return r.fetched.Load() }

// minBuffer is room for a patch and its base of any size.
const minBuffer = 2 * (chunker.MaxSize + tagSize)

// buffer waits for a free buffer of MaxGet bytes, or minBuffer.
func (r *Reader) buffer(ctx context.Context) ([]byte, error) {
	select {
	case b := <-r.buffers:
		if b == nil {
			b = make([]byte, max(r.opts.MaxGet, minBuffer))
		}
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (r *Reader) release(b []byte) { r.buffers <- b }

// opener borrows an Opener; give it back with r.openers.Put.
func (r *Reader) opener() (*format.Opener, error) {
	if o, ok := r.openers.Get().(*format.Opener); ok {
		return o, nil
	}
	return format.NewOpener(r.keys)
}

// packSet is a set of packs for many goroutines.
type packSet struct {
	mu sync.Mutex
	m  map[format.PackID]bool // guarded by mu
}

func (s *packSet) add(p format.PackID) (added bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[p] {
		return false
	}
	if s.m == nil {
		s.m = map[format.PackID]bool{}
	}
	s.m[p] = true
	return true
}

func (s *packSet) has(p format.PackID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[p]
}
