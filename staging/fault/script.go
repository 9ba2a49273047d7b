// Package fault makes staging fail on purpose, for tests: Store decorates a staging.Store, Handler a server and Transport a client
// of signed requests. What fails is scripted by Rules, which count calls, or chosen by a seed. A fault never
// invents success: whatever is reported as done was done below.
//
// Any number of goroutines may use a Store, Handler or Transport; calls are counted in the order in which they arrive.
package fault

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// Rule says which calls of one operation fail, and how. Without Err (or Status), HalfBody or Hang it only delays.
type Rule struct {
	Op    string // "Put", "Get", "Stat", "List", "Delete", "SignPut", "SignGet"; over HTTP the method; "" is each
	Nth   int    // the first call of the operation that it meets, from 1; 0 is the first
	Times int    // how many calls from Nth; 0 is one, negative is all

	Delay    time.Duration // before anything else
	Hang     bool          // wait until the caller gives up
	Err      error         // given in the place of the result; over HTTP the connection breaks
	Status   int           // HTTP only: the answer's status
	After    bool          // Err or Status come after the work was done
	HalfBody bool          // what is read ends in an error in its middle
	Retry    string        // HTTP only: Retry-After of the answer
}

// ErrBroken is what a body gives that breaks in its middle. staging.Store does not promise this one: stores wrap what
// they meet in staging.ErrTemporary, and so does Store.
var ErrBroken = errors.New("connection broke on purpose")

func (r *Rule) meets(op string, n int) bool {
	first := max(r.Nth, 1)
	return (r.Op == "" || r.Op == op) && n >= first && (r.Times < 0 || n < first+max(r.Times, 1))
}

// script counts calls and finds their rules.
type script struct {
	mu     sync.Mutex
	rules  []Rule         // guarded by mu
	calls  map[string]int // guarded by mu
	random *rand.Rand     // nil without a seed; guarded by mu
	rate   float64        // of calls that fail; guarded by mu
	faults []Rule         // that random chooses from; guarded by mu
}

// next counts a call and returns the first rule that meets it, or the zero Rule.
func (s *script) next(op string) Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[op]++
	for i := range s.rules {
		if s.rules[i].meets(op, s.calls[op]) {
			return s.rules[i]
		}
	}
	if s.random != nil && s.random.Float64() < s.rate {
		return s.faults[s.random.IntN(len(s.faults))]
	}
	return Rule{}
}

// Add appends rules. Calls that were made before count.
func (s *script) Add(rules ...Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, rules...)
}

// Calls is how many calls of op there were; over HTTP op is the method.
func (s *script) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

func (s *script) randomly(seed uint64, rate float64, faults []Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.random, s.rate, s.faults = rand.New(rand.NewPCG(seed, 1)), rate, faults
}

// begin waits as the rule says. It returns ctx's error when ctx ends first.
func (r *Rule) begin(ctx context.Context) error {
	if r.Hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if r.Delay <= 0 {
		return nil
	}
	t := time.NewTimer(r.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
