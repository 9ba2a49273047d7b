package ebsdirect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/providers"
)

// Source gives a disk's blocks to a sink, in ascending order from block number from on: all that are not zeros when parent is nil, else all that
// may differ from parent's, zeros too. The same parent and content give the same blocks.
type Source func(ctx context.Context, parent *Content, from int64, to *Sink) error

// CopySpec asks for the snapshot of one restpoint's disk.
type CopySpec struct {
	Content     Content
	Token       string // chosen once for this content and written down by the caller; at most 200 characters
	Full        bool   // without a parent, whatever the journal holds
	Encrypted   bool   // of a full one; the others inherit
	KMSKey      string
	Description string
	Tags        map[string]string
	Timeout     time.Duration // see StartSpec
	Progress    func(Progress)
}

// Progress is how far a Copy is.
type Progress struct {
	Put  int64 // blocks of the snapshot that were acknowledged
	Left int64 // blocks that were zeros and left out
	Next int64 // all blocks before this one are settled
	Of   int64 // blocks of the disk
}

// Result is what a Copy made.
type Result struct {
	Snapshot  string
	Parent    string // empty: a full one
	Blocks    int64  // in the snapshot, put by this Copy or by one before it that did not end
	Left      int64
	Puts      int64 // acknowledged PutSnapshotBlock requests of this Copy
	Completed bool  // it can be used now, also as a parent
}

const (
	maxLost     = 3           // snapshots that may be lost under a Copy before it gives up
	noteEvery   = time.Second // between two notes in the journal
	askEvery    = 2 * time.Second
	maxComplete = time.Hour // that a snapshot may take from CompleteSnapshot to completed
)

// Copy makes the snapshot of spec.Content, on top of what the journal holds if it can be. A Copy that did not end is gone on with if its content
// is the same; another one's pending snapshot is abandoned. The journal is the caller's again on return.
func (c *Client) Copy(ctx context.Context, j *Journal, spec CopySpec, source Source) (res Result, err error) {
	if err := c.o.Pacer.open(ctx); err != nil {
		return res, err
	}
	open := ""
	defer func() { c.o.Pacer.close(open) }()
	for lost := 0; ; lost++ {
		w, err := c.begin(ctx, j, &spec)
		if err != nil {
			return res, fmt.Errorf("copy disk %.80s of restpoint %.80s: %w", spec.Content.Disk, spec.Content.Restpoint, err)
		}
		open = w.Pending.ID
		if err = c.fill(ctx, j, &spec, &w, source, &res); err == nil {
			err = c.complete(ctx, j, &w)
		}
		if isGone(err) && lost < maxLost {
			if nerr := c.lose(j, &spec, &w); nerr != nil {
				return res, nerr
			}
			continue
		}
		if err != nil {
			return res, fmt.Errorf("copy disk %.80s of restpoint %.80s: %w", spec.Content.Disk, spec.Content.Restpoint, err)
		}
		res.Snapshot, res.Blocks, res.Left, res.Completed = w.Pending.ID, w.Put, w.Left, c.o.State != nil
		if w.Parent != nil {
			res.Parent = w.Parent.ID
		}
		r := j.rec
		r.Holds, r.Writing = &Snapshot{ID: w.Pending.ID, Content: w.Content}, nil
		return res, j.write(r)
	}
}

// begin finds the snapshot that is being written for spec, or starts one. The token is durable before the call.
func (c *Client) begin(ctx context.Context, j *Journal, spec *CopySpec) (Writing, error) {
	if n := len(spec.Token); n == 0 || n > 200 {
		return Writing{}, fmt.Errorf("%w: token of %d characters, want 1 to 200", providers.ErrInvalid, n)
	}
	for lost := 0; ; lost++ {
		w, err := c.plan(j, spec)
		if err != nil || w.Pending.ID != "" {
			return w, err
		}
		start := StartSpec{Token: fmt.Sprintf("%s.%d", w.Token, w.Attempt), Size: w.Content.Size, Encrypted: spec.Encrypted, KMSKey: spec.KMSKey,
			Description: spec.Description, Tags: spec.Tags, Timeout: spec.Timeout}
		if w.Parent != nil {
			start.Parent = w.Parent.ID
		}
		w.Pending, err = c.Start(ctx, &start)
		switch {
		case err == nil:
			return w, j.writing(w)
		case lost >= maxLost:
			return w, err
		case w.Parent != nil && errors.Is(err, providers.ErrNotFound):
			r := j.rec
			r.Holds, r.Writing = nil, nil
			if err := j.write(r); err != nil {
				return w, err
			}
		case errors.Is(err, providers.ErrConflict), errors.Is(err, providers.ErrNotFound): // the token's snapshot is another one, of before a lost journal, or deleted
			if err := c.lose(j, spec, &w); err != nil {
				return w, err
			}
		default:
			return w, err
		}
	}
}

// plan is the snapshot that the journal has for spec, or makes durable that one will be started.
func (c *Client) plan(j *Journal, spec *CopySpec) (Writing, error) {
	r := j.rec
	if w := r.Writing; w != nil && w.Content.Same(spec.Content) && (!spec.Full || w.Parent == nil) {
		return *w, nil
	}
	j.abandon(&r)
	w := Writing{Token: spec.Token, Content: spec.Content}
	if p := r.Holds; p != nil && !spec.Full && spec.Content.follows(p.Content) {
		w.Parent = p
	}
	r.Writing = &w
	return w, j.write(r)
}

// lose gives a snapshot up and makes durable that another one is to be started for the same content.
func (c *Client) lose(j *Journal, spec *CopySpec, w *Writing) error {
	r := j.rec
	j.abandon(&r)
	r.Writing = &Writing{Token: w.Token, Attempt: w.Attempt + 1, Parent: w.Parent, Content: spec.Content}
	return j.write(r)
}

// fill puts all blocks that are not put yet.
func (c *Client) fill(ctx context.Context, j *Journal, spec *CopySpec, w *Writing, source Source, res *Result) error {
	if w.Completing {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sink, err := newSink(ctx, w, c.o.Buffers)
	if err != nil {
		return err
	}
	n := noter{c: c, j: j, w: *w, sink: sink, spec: spec, last: c.o.Clock.Now()}
	var puts sync.WaitGroup
	for range min(c.o.Puts, c.o.Buffers) {
		puts.Go(func() {
			for sl := range sink.full {
				if ctx.Err() != nil {
					continue // so that the source never waits for room
				}
				zero := sink.fresh && bytes.Equal(sl.data, zeros[:])
				if !zero {
					sl.sum = sha256.Sum256(sl.data)
					if err := c.Put(ctx, w.Pending, sl.index, sl.data, &sl.sum); err != nil {
						cancel(err)
						continue
					}
					n.acknowledged()
				}
				sink.settle(sl, zero)
				if err := n.note(false); err != nil {
					cancel(err)
				}
			}
		})
	}
	var parent *Content
	if w.Parent != nil {
		parent = &w.Parent.Content
	}
	if err := source(ctx, parent, w.Next, sink); err != nil {
		cancel(err)
	}
	close(sink.full)
	puts.Wait()
	err = context.Cause(ctx)
	if err == nil && sink.open() > 0 {
		err = fmt.Errorf("%d blocks were reserved and never full", sink.open())
	}
	res.Puts += n.puts
	if err != nil {
		// What was acknowledged stays: note it.
		return errors.Join(err, n.note(true))
	}
	if err := sink.mark(&n.w); err != nil {
		return err
	}
	n.w.Next, n.w.Completing = Blocks(spec.Content.Size), true
	*w = n.w
	n.show()
	return j.writing(n.w)
}

var zeros [BlockSize]byte

// noter writes into the journal how far the puts are.
type noter struct {
	c    *Client
	j    *Journal
	sink *Sink
	spec *CopySpec

	mu   sync.Mutex
	w    Writing // guarded by mu, as is all below
	last time.Time
	puts int64
}

func (n *noter) acknowledged() {
	n.mu.Lock()
	n.puts++
	n.mu.Unlock()
}

// note writes if it is time, or now.
func (n *noter) note(now bool) error {
	if now {
		n.mu.Lock()
	} else if !n.mu.TryLock() {
		return nil // another one is at it
	}
	defer n.mu.Unlock()
	at := n.c.o.Clock.Now()
	if !now && at.Sub(n.last) < noteEvery {
		return nil
	}
	n.last = at
	if err := n.sink.mark(&n.w); err != nil {
		return err
	}
	n.show()
	return n.j.writing(n.w)
}

func (n *noter) show() {
	if n.spec.Progress != nil {
		n.spec.Progress(Progress{Put: n.w.Put, Left: n.w.Left, Next: n.w.Next, Of: Blocks(n.spec.Content.Size)})
	}
}

// complete seals a snapshot, and waits until it is completed where that can be asked.
func (c *Client) complete(ctx context.Context, j *Journal, w *Writing) error {
	sum, err := w.sum()
	if err != nil {
		return err
	}
	err = c.Complete(ctx, w.Pending, w.Put, sum.Sum(nil))
	if err != nil && (!isGone(err) || c.o.State == nil) {
		return err
	}
	if c.o.State == nil {
		return nil
	}
	// It may be gone because an earlier call, whose answer was lost, has completed it.
	end := c.o.Clock.Now().Add(maxComplete)
	for {
		st, serr := c.o.State(ctx, w.Pending.ID)
		switch {
		case serr != nil:
			return fmt.Errorf("ask for snapshot %s: %w", w.Pending.ID, serr)
		case st == StateCompleted:
			return nil
		case st == StateNone && c.o.Clock.Now().Sub(w.Pending.Started) < visible: // reads may lag
		case st == StateError, st == StateNone:
			return fmt.Errorf("complete snapshot %s: %w: the service says %q", w.Pending.ID, ErrGone, st)
		case c.o.Clock.Now().After(end):
			return fmt.Errorf("complete snapshot %s: %w: still pending after %s; ask again later", w.Pending.ID, providers.ErrTryAgain, maxComplete)
		}
		if err := c.o.Sleep(ctx, askEvery); err != nil {
			return err
		}
	}
}
