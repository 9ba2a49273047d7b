package catalog

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// signal wakes all who wait for news.
type signal struct {
	mu sync.Mutex
	ch chan struct{} // guarded by mu; closed and replaced when there is news
}

func newSignal() *signal { return &signal{ch: make(chan struct{})} }

// next returns a channel that is closed at the next news. Take it before looking at the state that one waits for.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ch
}

func (s *signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.ch)
	s.ch = make(chan struct{})
}

// poll calls look until it reports true or fails, at first and at every news, for at most wait. It reports whether
// look did.
func (s *signal) poll(ctx context.Context, wait time.Duration, look func() (bool, error)) (bool, error) {
	timer := time.NewTimer(min(max(wait, 0), wire.MaxWait))
	defer timer.Stop()
	for {
		news := s.next()
		if ok, err := look(); ok || err != nil {
			return ok, err
		}
		select {
		case <-news:
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// signals wakes those who wait for news of one thing: a fleet that waits must not look for each news of any.
type signals struct {
	mu sync.Mutex
	m  map[string]*waited // guarded by mu; those that somebody waits for
}

type waited struct {
	signal
	users int // guarded by signals.mu
}

func newSignals() *signals { return &signals{m: map[string]*waited{}} }

func (s *signals) fire(key string) {
	s.mu.Lock()
	w := s.m[key]
	s.mu.Unlock()
	if w != nil {
		w.fire()
	}
}

// poll is signal.poll for the news of one thing.
func (s *signals) poll(ctx context.Context, key string, wait time.Duration, look func() (bool, error)) (bool, error) {
	s.mu.Lock()
	w := s.m[key]
	if w == nil {
		w = &waited{signal: signal{ch: make(chan struct{})}}
		s.m[key] = w
	}
	w.users++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if w.users--; w.users == 0 {
			delete(s.m, key)
		}
	}()
	return w.poll(ctx, wait, look)
}

// keyedMutex is one mutex for each key that is in use.
type keyedMutex struct {
	mu sync.Mutex
	m  map[string]*keyedLock // guarded by mu
}

type keyedLock struct {
	ch    chan struct{} // holds a token while locked
	users int
}

// lock waits until the key is free, or ctx ends.
func (k *keyedMutex) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.m == nil {
		k.m = make(map[string]*keyedLock)
	}
	l := k.m[key]
	if l == nil {
		l = &keyedLock{ch: make(chan struct{}, 1)}
		k.m[key] = l
	}
	l.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.m, key)
		}
	}
	select {
	case l.ch <- struct{}{}:
		return func() { <-l.ch; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// seenMap says when machines and nodes were heard of last, by the wall clock, for people to look at.
type seenMap struct {
	mu sync.Mutex
	m  map[string]time.Time // guarded by mu
}

func newSeenMap() *seenMap { return &seenMap{m: make(map[string]time.Time)} }

func (s *seenMap) set(id string, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[id] = t
}

func (s *seenMap) get(id string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[id]
}

func (s *seenMap) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, id)
}

// progressMap holds what sessions and jobs last said of themselves.
type progressMap struct {
	mu sync.Mutex
	m  map[string]wire.Progress // guarded by mu
}

func newProgressMap() *progressMap { return &progressMap{m: make(map[string]wire.Progress)} }

// set reports whether it is news.
func (p *progressMap) set(id string, v wire.Progress) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, ok := p.m[id]
	p.m[id] = v
	return !ok || !reflect.DeepEqual(was, v)
}

func (p *progressMap) get(id string) (wire.Progress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.m[id]
	return v, ok
}

func (p *progressMap) drop(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, id)
}
