package load

import (
	"sync"
	"time"
)

const (
	// shortest stall that is remembered.
	shortest = time.Millisecond
	// remembered is how many stalls are; older ones are forgotten. A stall takes 48 bytes.
	remembered = 1 << 16
)

// stall is a write that took long.
type stall struct{ from, to time.Time }

func (s stall) length() time.Duration { return s.to.Sub(s.from) }

// stalls remembers the last ones. The writer adds, anybody asks.
type stalls struct {
	mu   sync.Mutex
	list []stall // ordered; a ring when it is full
	next int
}

func (s *stalls) add(from, to time.Time) {
	if to.Sub(from) < shortest {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) < remembered {
		s.list = append(s.list, stall{from, to})
		return
	}
	s.list[s.next] = stall{from, to}
	s.next = (s.next + 1) % remembered
}

// longest is the longest of those that lasted at any moment of [from, to]; 0: none was as long as shortest.
func (s *stalls) longest(from, to time.Time) (most time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.list {
		if !x.to.Before(from) && !x.from.After(to) {
			most = max(most, x.length())
		}
	}
	return most
}
