package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// Times of a schedule.
const (
	failFirst = 2 * time.Second // before a cycle that failed is tried again; doubled each time
	failMost  = 5 * time.Minute
	lookAgain = time.Minute // the longest wait without looking at the clock: it may jump
)

// schedule says when the next cycle starts. It belongs to one goroutine.
type schedule struct {
	Started time.Time `json:"started"` // start of the last cycle that made a restpoint
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
	open, err := inWindow(a.Window, now)
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
	due := s.Started.Add(time.Duration(a.Interval))
	if s.Started.IsZero() || s.Started.After(now) || !due.After(now) {
		return plan{run: true}
	}
	return plan{wait: min(due.Sub(now), lookAgain), state: "idle", message: "next cycle at " + due.UTC().Format(time.RFC3339)}
}

// failed notes a cycle that failed.
func (s *schedule) failed(now time.Time, wish string) {
	s.tried = wish
	s.retry = now.Add(min(failMost, failFirst<<min(s.fails, 10)))
	s.fails++
}

// made notes a restpoint.
func (s *schedule) made(started time.Time, wish string) {
	*s = schedule{Started: started, done: wish, tried: wish}
}

// inWindow reports whether data may be sent at now. Weekdays name the day on which the window opens.
func inWindow(w *wire.Window, now time.Time) (bool, error) {
	if w == nil {
		return true, nil
	}
	from, err := minuteOf(w.From)
	if err != nil {
		return false, err
	}
	to, err := minuteOf(w.To)
	if err != nil {
		return false, err
	}
	now = now.UTC()
	at, day := now.Hour()*60+now.Minute(), int(now.Weekday())
	on := func(day int) bool { return len(w.Weekdays) == 0 || slices.Contains(w.Weekdays, day) }
	if from < to {
		return at >= from && at < to && on(day), nil
	}
	return at >= from && on(day) || at < to && on((day+6)%7), nil
}

// minuteOf reads "22:00" as minutes since midnight; "24:00" is the end of the day.
func minuteOf(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("read window: %.20q is no time of day such as 22:00", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}
