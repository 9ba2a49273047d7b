// Package outbox tells what changes in the master, as it changes: an event for each thing that was written, in order, with a sequence number.
//
// Events come from the store itself (Watch), after the transaction that made the change is durable, so nobody has to remember to send one and none is
// sent for what was not done. They say what changed, not how: whoever hears of one reads the thing again. So events of one thing within a moment are one,
// and many of a kind become one without an id. The last events are kept in memory, in a ring: whoever comes back after a pause goes on where it was,
// or is told that there is a gap and reads everything again. Sequences go up over restarts, and a restart is a gap.
//
// An Outbox may be used by any number of goroutines. Memory is bounded, whoever listens or not.
package outbox

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Event says that something changed.
type Event struct {
	Sequence uint64
	Kind     string // machine, restpoint, session, job, launch, node, token, enrolment-token, …
	ID       string // empty: many of the kind
	Project  string
	Machine  string // that it belongs to, if it is known
	Gone     bool   // it was deleted
}

// Limits.
const (
	ringSize   = 4096                   // events that are remembered
	gather     = 250 * time.Millisecond // in which events of one thing are one
	maxOfKind  = 200                    // of one kind and project in that time; more are one event without an id
	maxPending = 20_000                 // things; above, all of the kind are one
)

type key struct{ kind, id, project string }

// Outbox keeps the last events. Make it with New.
type Outbox struct {
	mu      sync.Mutex
	ring    []Event       // guarded by mu; oldest first, once it is full from next on
	next    int           // guarded by mu
	last    uint64        // guarded by mu; sequence of the newest
	first   uint64        // guarded by mu; everything after it is in the ring
	pending map[key]Event // guarded by mu
	timer   *time.Timer   // guarded by mu; nil: nothing is pending
	news    chan struct{} // guarded by mu; closed and replaced when there are events
	closed  bool          // guarded by mu
}

// New makes an outbox. start is where sequences begin: above all that an earlier process gave, such as the time in microseconds.
func New(start uint64) *Outbox {
	return &Outbox{last: start, first: start, pending: map[key]Event{}, news: make(chan struct{})}
}

// Close sends no more.
func (o *Outbox) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.timer != nil {
		o.timer.Stop()
	}
}

// Publish adds events; they are told within a moment. Sequences are given then.
func (o *Outbox) Publish(events ...Event) {
	if len(events) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	for _, e := range events {
		k := key{e.Kind, e.ID, e.Project}
		if len(o.pending) >= maxPending {
			k.id, e.ID, e.Machine, e.Gone = "", "", "", false
		}
		if was, ok := o.pending[k]; ok && e.Machine == "" {
			e.Machine = was.Machine
		}
		o.pending[k] = e
	}
	if o.timer == nil {
		o.timer = time.AfterFunc(gather, o.flush)
	}
}

// flush gives what is pending its sequence.
func (o *Outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timer = nil
	if o.closed {
		return
	}
	count := map[key]int{}
	for k := range o.pending {
		count[key{kind: k.kind, project: k.project}]++
	}
	var out []Event
	for k, e := range o.pending {
		if all := (key{kind: k.kind, project: k.project}); count[all] > maxOfKind {
			if count[all] != 1<<30 { // the first of many
				out = append(out, Event{Kind: k.kind, Project: k.project})
				count[all] = 1 << 30
			}
			continue
		}
		out = append(out, e)
	}
	clear(o.pending)
	slices.SortFunc(out, func(a, b Event) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID)) })
	for i := range out {
		o.last++
		out[i].Sequence = o.last
		if len(o.ring) < ringSize {
			o.ring = append(o.ring, out[i])
			continue
		}
		o.first = o.ring[o.next].Sequence
		o.ring[o.next] = out[i]
		o.next = (o.next + 1) % ringSize
	}
	close(o.news)
	o.news = make(chan struct{})
}

// News returns a channel that is closed at the next events. Take it before After.
func (o *Outbox) News() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.news
}

// Last is the sequence of the newest event.
func (o *Outbox) Last() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// After returns a project's events after a sequence, and the newest sequence, to ask from the next time. gap: there were others that are forgotten.
func (o *Outbox) After(sequence uint64, project string) (events []Event, last uint64, gap bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if sequence > o.last || sequence < o.first {
		return nil, o.last, true
	}
	for i := range o.ring {
		if e := &o.ring[(o.next+i)%len(o.ring)]; e.Sequence > sequence && e.Project == project {
			events = append(events, *e)
		}
	}
	return events, o.last, false
}
