package agent

import (
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// Times of a schedule.
const (
	failFirst = 2 * time.Second // before a cycle that failed is tried again; doubled each time
	failMost  = 5 * time.Minute
	lookAgain = time.Minute // the longest wait without looking at the clock: it may jump

	leastInterval = time.Second
	restShare     = 10 // a cycle is followed by a rest of its duration divided by this, at least
	restMost      = 5 * time.Minute
)

// schedule says when the next cycle starts: an interval after the start of the last one, or, when that one took longer, at once but
// for a rest that leaves the machine to its own work for a while. It belongs to one goroutine.
type schedule struct {
	Started time.Time `json:"started"` // start of the last cycle that made a restpoint
	Ended   time.Time `json:"ended"`   // its end
	done    string    // the wish that was fulfilled last
	tried   string    // the wish that the last cycle was for
	retry   time.Time // not before, after a failure
	fails   int
}

// plan is what to do now: run, or wait at most so long, and why.
type plan struct {
	run     bool
	wait    time.Duration
	state   string // of a wire.Report
	message string
}

// next decides. Wishes of the operator come before the interval; pause and window before both.
func (s *schedule) next(now time.Time, a *wire.Assignment) plan {
	hold := func(state, message string) plan { return plan{wait: lookAgain, state: state, message: message} }
	if a == nil {
		return hold("waiting", "no assignment yet")
	}
	open, err := a.Window.Open(now)
	wish := a.Sync != "" && a.Sync != s.done
	switch {
	case a.Paused:
		return hold("waiting", "paused")
	case err != nil:
		return hold("error", err.Error())
	case !open:
		return hold("waiting", fmt.Sprintf("outside of the window %s-%s UTC", a.Window.From, a.Window.To))
	case wish && a.Sync != s.tried:
		return plan{run: true}
	}
	if wait := s.retry.Sub(now); s.fails > 0 && wait > 0 && wait <= failMost { // longer: the clock was put back
		return plan{wait: min(wait, lookAgain), state: "error", message: "the last cycle failed; trying again soon"}
	}
	if wish {
		return plan{run: true}
	}
	if a.Interval <= 0 {
		return hold("idle", "waiting to be asked")
	}
	due := s.due(now, max(time.Duration(a.Interval), leastInterval))
	if s.Started.IsZero() || s.Started.After(now) || !due.After(now) {
		return plan{run: true}
	}
	return plan{wait: min(due.Sub(now), lookAgain), state: "idle", message: "next cycle at " + due.UTC().Format(time.RFC3339)}
}

// due is when the next cycle starts if nobody asks for one.
func (s *schedule) due(now time.Time, interval time.Duration) time.Time {
	due := s.Started.Add(interval)
	if s.Ended.Before(s.Started) || s.Ended.After(now) { // the clock was put back
		return due
	}
	if rested := s.Ended.Add(min(s.Ended.Sub(s.Started)/restShare, restMost)); rested.After(due) {
		return rested
	}
	return due
}

// failed notes a cycle that failed.
func (s *schedule) failed(now time.Time, wish string) {
	s.tried = wish
	s.retry = now.Add(min(failMost, failFirst<<min(s.fails, 10)))
	s.fails++
}

// made notes a restpoint.
func (s *schedule) made(started, ended time.Time, wish string) {
	*s = schedule{Started: started, Ended: ended, done: wish, tried: wish}
}
