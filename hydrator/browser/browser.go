// Package browser answers many short questions about the files of restpoints: list a folder, read one file. Nothing is restored: what is
// looked at is fetched from staging and checked (packages view and files).
//
//	question ─► a token ─► the restpoint's view, opened for the first who asks and kept for a while ─► file system, opened anew ─► answer
//
// It keeps three invariants. Whatever is asked, memory is that of Options.Open views, and of Options.Requests questions: the names of one folder, or the
// map of one file, each. A view is held by a job, so nothing of what it shows is deleted. A question ends with its context, and a folder or path that
// takes longer than Options.Patience to read is given up: disks are hostile.
//
// A Browser may be used by any number of goroutines at once.
package browser

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/hydrator"
	"github.com/openmigrate/openmigrate/hydrator/view"
	"github.com/openmigrate/openmigrate/wire"
)

// Source is where jobs come from.
type Source interface {
	hydrator.JobClient
	// Export makes a job that reads a restpoint, and holds it.
	Export(ctx context.Context, restpoint string) (*wire.Job, error)
}

// Options change a Browser. The zero value is good for a master.
type Options struct {
	MasterKey ed25519.PublicKey // the key that restpoints must be countersigned with; nil: the one that the job names
	Open      int               // restpoints that are open at once; 0: 4
	Requests  int               // questions at once, open files among them; 0: 16
	Memory    int64             // bytes of chunks of one restpoint; 0: 16 MiB; at least 8 chunks
	Idle      time.Duration     // after which a restpoint that nobody asks about is let go; 0: a minute
	Patience  time.Duration     // for finding a path and reading a folder; 0: 30 s
	Log       *slog.Logger      // nil: slog.Default
}

const (
	defaultOpen     = 4
	defaultRequests = 16
	defaultMemory   = 16 << 20
	defaultIdle     = time.Minute
	defaultPatience = 30 * time.Second

	// A view's reader holds so many bytes at most, once something was read.
	readBuffers = 3
	readWorkers = 2
	readAhead   = 4 << 20
)

// Browser keeps views of the restpoints that were asked about last.
type Browser struct {
	src    Source
	o      Options
	tokens chan struct{}
	ctx    context.Context // ends when jobs must be given up at once
	cancel context.CancelFunc
	work   sync.WaitGroup // views

	mu     sync.Mutex
	closed bool             // guarded by mu
	open   map[string]*book // by restpoint; guarded by mu
}

// book is one restpoint's view, on its way, open, or being closed.
type book struct {
	ready chan struct{} // closed when view or err is set
	view  *view.View
	life  context.Context // ends with the job's lease
	err   error
	end   chan struct{} // closed to have it closed
	done  chan struct{} // closed when nothing of it is left

	users  int       // guarded by Browser.mu, as is all below
	used   time.Time // when the last user left
	ending bool      // nobody may begin to use it
}

// New makes a Browser. Close it.
func New(src Source, o *Options) *Browser {
	b := &Browser{src: src, open: map[string]*book{}}
	if o != nil {
		b.o = *o
	}
	if b.o.Open <= 0 {
		b.o.Open = defaultOpen
	}
	if b.o.Requests <= 0 {
		b.o.Requests = defaultRequests
	}
	if b.o.Memory <= 0 {
		b.o.Memory = defaultMemory
	}
	if b.o.Idle <= 0 {
		b.o.Idle = defaultIdle
	}
	if b.o.Patience <= 0 {
		b.o.Patience = defaultPatience
	}
	if b.o.Log == nil {
		b.o.Log = slog.Default()
	}
	b.tokens = make(chan struct{}, b.o.Requests)
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Close lets go of all restpoints, and waits for it. What is being read ends with an error.
func (b *Browser) Close() {
	b.mu.Lock()
	b.closed = true
	for _, k := range b.open {
		b.finish(k)
	}
	b.mu.Unlock()
	b.work.Wait()
	b.cancel()
}

// errClosing: the browser was closed before a restpoint was open.
var errClosing = errors.New("the restpoint was let go of")

func busy() error {
	return wire.NewProblem(http.StatusServiceUnavailable, wire.CodeUnavailable, "too many files and folders of restpoints are being read").
		WithNext("try again when a download has ended")
}

// borrow returns the book of a restpoint, open; give it back.
func (b *Browser) borrow(ctx context.Context, restpoint string) (*book, error) {
	for {
		k, wait, err := b.find(restpoint)
		if err != nil {
			return nil, err
		}
		if k != nil {
			wait = k.ready
		}
		select {
		case <-wait:
		case <-ctx.Done():
			if k != nil {
				b.giveBack(k)
			}
			return nil, context.Cause(ctx)
		}
		switch {
		case k == nil: // something else was in the way
		case k.err != nil:
			b.giveBack(k)
			return nil, k.err
		default:
			return k, nil
		}
	}
}

// find takes hold of a restpoint's book, or says for what to wait before another try.
func (b *Browser) find(restpoint string) (k *book, wait <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, nil, wire.NewProblem(http.StatusServiceUnavailable, wire.CodeUnavailable, "the master stops")
	}
	if k := b.open[restpoint]; k != nil {
		if k.ending {
			return nil, k.done, nil
		}
		k.users++
		return k, nil, nil
	}
	if len(b.open) < b.o.Open {
		k := &book{ready: make(chan struct{}), end: make(chan struct{}), done: make(chan struct{}), users: 1}
		b.open[restpoint] = k
		b.work.Go(func() { b.run(restpoint, k) })
		return k, nil, nil
	}
	var oldest *book
	for _, k := range b.open {
		if k.ending {
			return nil, k.done, nil
		}
		if k.users == 0 && (oldest == nil || k.used.Before(oldest.used)) {
			oldest = k
		}
	}
	if oldest == nil {
		return nil, nil, busy()
	}
	b.finish(oldest)
	return nil, oldest.done, nil
}

// finish has a book closed. The caller holds mu.
func (b *Browser) finish(k *book) {
	if !k.ending {
		k.ending = true
		close(k.end)
	}
}

func (b *Browser) giveBack(k *book) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k.users--
	k.used = time.Now()
}

// run opens a book, and closes it when it was long idle, when somebody else needs the room, or when its job is lost.
func (b *Browser) run(restpoint string, k *book) {
	err := b.hold(restpoint, k)
	b.mu.Lock()
	b.finish(k)
	delete(b.open, restpoint)
	b.mu.Unlock()
	select {
	case <-k.ready:
		if err != nil {
			b.o.Log.Warn("a restpoint that was looked into is let go of", "restpoint", restpoint, "error", err)
		}
	default:
		if err == nil {
			err = errClosing
		}
		k.err = err
		close(k.ready)
	}
	close(k.done)
}

func (b *Browser) hold(restpoint string, k *book) error {
	job, err := b.src.Export(b.ctx, restpoint)
	if err != nil {
		return err
	}
	o := &hydrator.BrowseOptions{MasterKey: b.o.MasterKey, View: view.Options{Memory: b.o.Memory, ReadAhead: readAhead, Log: b.o.Log}}
	o.Reader.Buffers, o.Reader.Workers = readBuffers, readWorkers
	return hydrator.Browse(b.ctx, b.src, job, o, func(ctx context.Context, v *view.View) error {
		k.view, k.life = v, ctx
		close(k.ready)
		tick := time.NewTicker(max(b.o.Idle/4, time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-k.end:
				return nil
			case <-tick.C:
				b.mu.Lock()
				if k.users == 0 && time.Since(k.used) >= b.o.Idle {
					b.finish(k)
				}
				b.mu.Unlock()
			}
		}
	})
}
