package catalog

import "time"

// How far a machine's copy is behind is computed here, from what its sessions and restpoints show. An agent is believed as little as
// possible: durations and ages are of the master's clock, and the agent's word for the instant that its restpoint is of counts only
// between the opening of the session and the listing. Counts of bytes are the agent's, and decide nothing.
//
//	instant of A       A listed                instant of B       B listed
//	─────┼─────────────────┼───────── … ────────────┼─────────────────┼─────► time
//	     │◄──── delay ────►│                        │◄──── delay ────►│
//	     │◄──────────────── period ────────────────►│
//	     │◄───── age of the newest restpoint just before B is listed: period + delay ────►│
//
// Up to that age, data that was written would be lost with the source: that is the predicted RPO.

const (
	paceWeight  = 0.5                  // of the newest cycle
	restShare   = 10                   // an agent that is behind rests for a cycle's duration divided by this
	maxBytes    = 1 << 56              // of disk; an agent that claims more is taken for one that claims this
	maxDuration = 366 * 24 * time.Hour // of a cycle; likewise
	shortest    = time.Second          // in which a rate can be measured
	maxUnderWay = 192 << 20            // bytes that an agent holds between reading and staging
)

// Pace is how a machine's cycles went of late. Averages are exponential, and of cycles that had a base: the others say nothing of the
// next one.
type Pace struct {
	Cycles     uint64        `json:"cycles"`     // measured
	Duration   time.Duration `json:"duration"`   // from opened to listed
	Delay      time.Duration `json:"delay"`      // from the instant to listed
	Throughput int64         `json:"throughput"` // bytes put into staging, per second of a cycle
	Demand     int64         `json:"demand"`     // bytes put into staging, per second between two instants
	Change     int64         `json:"change"`     // bytes of chunks that changed, per second between two instants
	Size       int64         `json:"size"`       // bytes of all disks, at the last cycle
}

// after takes a cycle into account. before is the instant of the restpoint before it.
func (p Pace) after(s *Session, r *Restpoint, before time.Time) Pace {
	var changed int64
	p.Size = 0
	for i := range r.Disks {
		d := &r.Disks[i]
		p.Size = min(p.Size+d.Size, maxBytes)
		changed += min(max(d.Changed, 0), d.Size)
	}
	if s.Parent == "" {
		return p
	}
	weight := paceWeight
	if p.Cycles == 0 {
		weight = 1
	}
	p.Cycles++
	mix := func(old, now int64) int64 { return old + int64(weight*float64(now-old)) }
	length := func(old, now time.Duration) time.Duration {
		return time.Duration(mix(int64(old), int64(min(max(now, 0), maxDuration))))
	}
	took, period := r.Listed.Sub(s.Opened), r.instant().Sub(before)
	p.Duration, p.Delay = length(p.Duration, took), length(p.Delay, r.Listed.Sub(r.instant()))
	p.Throughput = mix(p.Throughput, rate(r.Stats.Stored, took))
	p.Demand = mix(p.Demand, rate(r.Stats.Stored, period))
	p.Change = mix(p.Change, rate(changed, period))
	return p
}

// period is the time from start to start of cycles.
func (p *Pace) period(interval time.Duration) time.Duration {
	return max(interval, p.Duration+p.Duration/restShare)
}

// rate is in bytes per second.
func rate(bytes int64, d time.Duration) int64 {
	return int64(float64(min(max(bytes, 0), maxBytes)) / max(d, shortest).Seconds())
}

// instant is the moment, by the master's clock, that a restpoint of this session is of, whose manifest says created by the agent's clock.
// Nothing that it holds was read before the session was opened, so that is all that an agent is believed which does not tell its time.
func (s *Session) instant(created, listed time.Time) time.Time {
	at := s.Opened
	if s.Skew != nil {
		at = created.Add(*s.Skew)
	}
	if at.Before(s.Opened) {
		at = s.Opened
	}
	if at.After(listed) {
		at = listed
	}
	return at
}

// skew is how far the master's clock is ahead of one that shows now, with the time that the request took; nil: it was not told.
func skew(arrived, now time.Time) *time.Duration {
	if now.IsZero() {
		return nil
	}
	d := arrived.Sub(now)
	return &d
}

// instant is the moment that the restpoint is of, by the master's clock. One that was found in the bucket is dated by its agent.
func (p *Restpoint) instant() time.Time {
	switch {
	case !p.Instant.IsZero():
		return p.Instant
	case p.Created.Before(p.Listed):
		return p.Created
	}
	return p.Listed
}

// newest makes p the restpoint that the machine's copy is as new as; nil: there is none.
func (m *Machine) newest(p *Restpoint) {
	if p == nil {
		m.LastRestpoint, m.LastTime, m.LastInstant, m.LastConsistency = "", time.Time{}, time.Time{}, ""
		return
	}
	m.LastRestpoint, m.LastTime, m.LastInstant, m.LastConsistency = p.ID, p.Listed, p.instant(), p.Consistency
}

// Standing says how a machine's replication stands at a moment.
type Standing struct {
	State      string        // see Machine.Replication
	Reason     string        // why it is not better; empty: nothing is wrong
	NextStep   string        // what to do, with the command; "none"
	RPO        time.Duration // age of what the newest restpoint holds; 0 when there is none
	Predicted  time.Duration // to which the RPO grows before the next restpoint is listed; 0: unknown
	Target     time.Duration // above which it lags; 0: none, restpoints are made only when asked for
	Lag        time.Duration // how overdue the next restpoint is
	Backlog    int64         // bytes of disk that are not in a restpoint yet: measured while a cycle reads, else estimated
	Change     int64         // bytes of disk that change per second, in whole chunks
	Throughput int64         // bytes put into staging per second, by the cycle that runs if it has put some, else by those of late
	ETA        time.Time     // when the cycle that runs will be done; zero: unknown, or none runs
}

// Standing computes how the machine's replication stands.
func (c *Catalog) Standing(m *Machine) Standing { return m.Standing(c.clock.Now()) }

// Standing computes how the machine's replication stands at now, by the master's clock.
func (m *Machine) Standing(now time.Time) Standing {
	s := Standing{State: m.Replication(now), Change: m.Pace.Change, Throughput: m.Pace.Throughput, Target: m.lagAfter()}
	if m.LastRestpoint != "" {
		s.RPO = m.age(now)
		s.Backlog = m.estimate(s.RPO)
	}
	if m.Interval > 0 {
		s.Predicted = m.predicted()
		if m.LastRestpoint != "" && !m.Paused {
			s.Lag = max(0, s.RPO-m.Interval-m.Pace.Delay)
		}
	}
	if m.Session != "" {
		m.running(&s, now)
	}
	if s.State == Held && m.still() {
		s = Standing{State: s.State, Throughput: s.Throughput}
	}
	m.diagnose(&s, now)
	return s
}

// age is that of what the newest restpoint holds.
func (m *Machine) age(now time.Time) time.Duration { return max(0, now.Sub(m.LastInstant)) }

// predicted is the RPO just before the next restpoint is listed; 0: no cycle was measured, or there is no schedule.
func (m *Machine) predicted() time.Duration {
	if m.Pace.Cycles == 0 || m.Interval <= 0 {
		return 0
	}
	return m.Pace.period(m.Interval) + m.Pace.Delay
}

// estimate is how much has changed in d.
func (m *Machine) estimate(d time.Duration) int64 {
	return int64(min(float64(m.Pace.Change)*d.Seconds(), float64(m.Pace.Size)))
}

// running adds what the cycle that runs shows.
func (m *Machine) running(s *Standing, now time.Time) {
	elapsed := max(0, now.Sub(m.Opened))
	if m.Pace.Cycles > 0 {
		s.ETA = m.Opened.Add(max(m.Pace.Duration, elapsed))
	}
	p := m.Progress
	if p == nil {
		return
	}
	read, unread := within(p.Done, maxBytes), within(p.Total-p.Done, maxBytes)
	// What compression saved counts as under way, too: the agent does not say how much that is.
	underWay := within(within(p.Sent, maxBytes)-within(p.Stored, maxBytes), maxUnderWay)
	s.Backlog = unread + underWay + m.estimate(elapsed)
	if elapsed < shortest {
		return
	}
	switch limit := m.Policy.Bandwidth; {
	case p.Stored > 0:
		s.Throughput = rate(p.Stored, elapsed)
	case limit > 0:
		s.Throughput = min(s.Throughput, limit)
	}
	if read == 0 || s.Throughput == 0 && underWay > 0 {
		return
	}
	more := elapsed.Seconds() * float64(unread) / float64(read)
	if underWay > 0 {
		more = max(more, float64(underWay)/float64(s.Throughput))
	}
	s.ETA = now.Add(time.Duration(min(more, maxDuration.Seconds()) * float64(time.Second)))
	s.Predicted = max(s.Predicted, s.RPO+s.ETA.Sub(now))
}

func within(n, most int64) int64 { return min(max(n, 0), most) }
