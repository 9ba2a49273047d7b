package load

import "time"

const (
	// early is how much before its time a write may go: timers are not finer than this.
	early = time.Millisecond
	// debt is how much of a delay is caught up. What is older is forgiven, so that a long stall is not followed by a long storm.
	debt = time.Second
)

// pace spreads bytes evenly over time. It belongs to one goroutine; the zero value has no limit.
type pace struct {
	rate int64     // bytes per second; 0: no limit
	due  time.Time // when the next byte may go
}

// next takes n bytes that are about to be written at now, and returns how long to wait before that.
func (p *pace) next(now time.Time, n int) time.Duration {
	if p.rate <= 0 {
		return 0
	}
	if oldest := now.Add(-debt); p.due.IsZero() {
		p.due = now
	} else if p.due.Before(oldest) {
		p.due = oldest
	}
	wait := p.due.Sub(now)
	p.due = p.due.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	if wait < early {
		return 0
	}
	return wait
}
