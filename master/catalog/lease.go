package catalog

import (
	"sync"
	"time"
)

// Monotonic measures time in a way that setting the clock does not change.
type Monotonic interface {
	// Elapsed is the time since some fixed moment in this process.
	Elapsed() time.Duration
}

type processClock struct{ start time.Time }

func newProcessClock() processClock { return processClock{start: time.Now()} }

// Elapsed uses the monotonic reading that time.Now carries.
func (p processClock) Elapsed() time.Duration { return time.Since(p.start) }

// leases says which holders were heard of lately. They are kept in memory only and measured with a monotonic clock: a
// clock that jumps ends no lease, and a master that restarts gives each lease one full term from its start, because it can not
// know when it was renewed last. What a lease has led to (a session that was fenced, a job
// that was requeued) is in the store, and is decided there.
type leases struct {
	clock Monotonic
	ttl   time.Duration
	start time.Duration

	mu      sync.Mutex
	renewed map[string]time.Duration // guarded by mu; absent: start
	held    map[string]int           // guarded by mu; calls under way that count as being heard of
}

func newLeases(clock Monotonic, ttl time.Duration) *leases {
	return &leases{
		clock: clock, ttl: ttl, start: clock.Elapsed(),
		renewed: make(map[string]time.Duration), held: make(map[string]int),
	}
}

// aliveLocked needs mu.
func (l *leases) aliveLocked(id string) bool {
	if l.held[id] > 0 {
		return true
	}
	last, ok := l.renewed[id]
	if !ok {
		last = l.start
	}
	return l.clock.Elapsed()-last <= l.ttl
}

// grant starts a lease afresh.
func (l *leases) grant(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed[id] = l.clock.Elapsed()
}

// renew reports whether the lease was still alive, and extends it if so. A dead one stays dead, so that whoever found it dead may
// act on that.
func (l *leases) renew(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.aliveLocked(id) {
		return false
	}
	l.renewed[id] = l.clock.Elapsed()
	return true
}

// hold keeps a live lease alive until release, for calls that take long.
func (l *leases) hold(id string) (release func(), alive bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.aliveLocked(id) {
		return func() {}, false
	}
	l.held[id]++
	l.renewed[id] = l.clock.Elapsed()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[id]--; l.held[id] <= 0 {
			delete(l.held, id)
		}
		if _, ok := l.renewed[id]; ok { // else dropped meanwhile
			l.renewed[id] = l.clock.Elapsed()
		}
	}, true
}

func (l *leases) alive(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.aliveLocked(id)
}

// drop forgets a lease that ended. One that is asked for again counts from the start of the process.
func (l *leases) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.renewed, id)
}
