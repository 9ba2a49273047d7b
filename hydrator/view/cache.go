package view

import (
	"container/list"
	"context"
	"sync"

	"github.com/openmigrate/openmigrate/chunker"
)

// want is a chunk that somebody needs.
type want struct {
	id    chunker.ID
	disk  *Disk
	index int64
	size  int // bytes of content
	takes int // bytes of memory
}

// entry is a chunk in memory, or on its way there.
type entry struct {
	want
	ready chan struct{} // closed when data or err is final
	data  []byte
	err   error

	pins int           // guarded by cache.mu; who reads it, and the fetch that fills it
	elem *list.Element // guarded by cache.mu; in cache.idle when nobody holds it
}

func (e *entry) wait(ctx context.Context) error {
	select {
	case <-e.ready:
		return e.err
	default:
	}
	select {
	case <-e.ready:
		return e.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// cache holds chunks within limit bytes. All that it needs is taken at once or not at all, so those who wait hold nothing.
type cache struct {
	limit int64

	mu    sync.Mutex
	used  int64                 // guarded by mu, as is all below
	peak  int64                 // most that was ever used
	m     map[chunker.ID]*entry // failed ones are not in it
	idle  *list.List            // of *entry, used last first
	free  [][]byte              // buffers of entries that went; not counted: they are taken before any is made
	freed chan struct{}         // closed when something may fit that did not
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, m: map[chunker.ID]*entry{}, idle: list.New(), freed: make(chan struct{})}
}

// hold takes hold of an entry for each want. fresh are those among them that the caller must have fetched. It waits for room
// until ctx or life ends.
func (c *cache) hold(ctx, life context.Context, wants []want) (held, fresh []*entry, err error) {
	for {
		c.mu.Lock()
		held, fresh, ok := c.take(wants)
		freed := c.freed
		c.mu.Unlock()
		if ok {
			return held, fresh, nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-life.Done():
			return nil, nil, context.Cause(life)
		}
	}
}

// more makes entries for those of wants that are not there, as far as they fit without waiting; nobody but the fetch holds them.
func (c *cache) more(wants []want) (fresh []*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range wants {
		if c.m[w.id] != nil {
			continue
		}
		if !c.room(int64(w.takes)) {
			break
		}
		fresh = append(fresh, c.add(w))
	}
	return fresh
}

func (c *cache) take(wants []want) (held, fresh []*entry, ok bool) {
	need := int64(0)
	for _, w := range wants {
		if e := c.m[w.id]; e != nil {
			c.pin(e)
			held = append(held, e)
		} else {
			need += int64(w.takes)
		}
	}
	if !c.room(need) {
		for _, e := range held {
			c.unpin(e)
		}
		return nil, nil, false
	}
	for _, w := range wants {
		if c.m[w.id] == nil {
			e := c.add(w)
			c.pin(e)
			held, fresh = append(held, e), append(fresh, e)
		}
	}
	return held, fresh, true
}

// room forgets idle entries until need bytes fit.
func (c *cache) room(need int64) bool {
	for c.used+need > c.limit {
		last := c.idle.Back()
		if last == nil {
			return false
		}
		e := last.Value.(*entry)
		c.idle.Remove(last)
		delete(c.m, e.id)
		c.drop(e)
	}
	return true
}

// add makes an entry that its fetch holds.
func (c *cache) add(w want) *entry {
	e := &entry{want: w, ready: make(chan struct{}), pins: 1}
	if n := len(c.free); n > 0 {
		if b := c.free[n-1]; cap(b) >= w.takes {
			e.data = b[:0]
		}
		c.free = c.free[:n-1]
	}
	if e.data == nil {
		e.data = make([]byte, 0, w.takes)
	}
	c.used += int64(w.takes)
	c.peak = max(c.peak, c.used)
	c.m[w.id] = e
	return e
}

func (c *cache) drop(e *entry) {
	c.used -= int64(e.takes)
	c.free = append(c.free, e.data)
	e.data = nil
}

func (c *cache) pin(e *entry) {
	if e.elem != nil {
		c.idle.Remove(e.elem)
		e.elem = nil
	}
	e.pins++
}

func (c *cache) unpin(e *entry) {
	if e.pins--; e.pins > 0 {
		return
	}
	if e.err != nil {
		c.drop(e)
	} else {
		e.elem = c.idle.PushFront(e)
	}
	close(c.freed)
	c.freed = make(chan struct{})
}

// release lets go of entries that hold returned.
func (c *cache) release(held []*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range held {
		c.unpin(e)
	}
}

// finish is the fetch's last word on an entry: its data is final, or it could not be had, and the next who asks tries again.
func (c *cache) finish(e *entry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		e.err = err
		delete(c.m, e.id)
	}
	close(e.ready)
	c.unpin(e)
}
