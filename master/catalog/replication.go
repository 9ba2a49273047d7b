package catalog

import (
	"fmt"
	"time"

	"github.com/openmigrate/openmigrate/staging/format"
	"github.com/openmigrate/openmigrate/wire"
)

// What Machine.Replication says.
const (
	Enrolled     = "enrolled"     // nothing was ever sent
	InitialSync  = "initial-sync" // the first restpoint is being made
	Protected    = "protected"    // the newest restpoint is as new as it should be
	Lagging      = "lagging"      // its RPO is, or by the pace of late will be, above two intervals; or it is of no one instant
	Stalled      = "stalled"      // likewise above six; or three in a row were of no one instant
	Rescanning   = "rescanning"   // the base was lost: all is read and offered again
	Paused       = "paused"       //
	Disconnected = "disconnected" // the agent was not heard of for three minutes
	Held         = "held"         // for a cutover, or its copy serves in its place
)

const (
	disconnectedAfter = 3 * time.Minute
	laggingAfter      = 2 // intervals
	stalledAfter      = 6 // intervals
	stalledUnmet      = 3 // cycles in a row that did not converge

	// Below these, a machine with an interval of seconds would change its state with every busy moment.
	leastLag   = 15 * time.Second
	leastStall = time.Minute
)

// Replication says how a machine's replication stands. It compares wall clocks and is for people to look at; nothing
// is decided by it. Because an RPO grows from restpoint to restpoint and falls with each, the one that is predicted counts as well: a
// machine whose cycles take too long stays lagging between them (see late).
//
//	enrolled → initial-sync → protected ⇄ lagging ⇄ stalled; beside them rescanning, paused, disconnected, held
func (m *Machine) Replication(now time.Time) string {
	switch {
	case m.off():
		return Held
	case m.Paused && !m.held():
		return Paused
	case now.Sub(m.LastSeen) > disconnectedAfter:
		return Disconnected
	case m.held():
		return Held
	case m.LastRestpoint == "" && m.Session != "":
		return InitialSync
	case m.LastRestpoint == "":
		return Enrolled
	case m.Rescanning:
		return Rescanning
	case m.Interval <= 0:
		return Protected // only made when asked for: never late
	}
	worst := max(m.age(now), m.predicted())
	switch {
	case worst > max(stalledAfter*m.Interval, leastStall) || m.unmet() >= stalledUnmet:
		return Stalled
	case worst > m.lagAfter() || m.late() || m.unmet() > 0:
		return Lagging
	}
	return Protected
}

// late reports whether cycles take too long to keep the target. Once they did, it stays until they are a fifth below it: else a machine
// at the edge would change its state with every cycle.
func (m *Machine) late() bool {
	target := m.lagAfter()
	if m.Late {
		target -= target / 5
	}
	return m.Interval > 0 && m.predicted() > target
}

// lagAfter is the RPO above which the machine lags; 0: it never does.
func (m *Machine) lagAfter() time.Duration {
	if m.Interval <= 0 {
		return 0
	}
	return max(laggingAfter*m.Interval, leastLag)
}

// unmet is how many cycles in a row reached no one instant, if one is wanted.
func (m *Machine) unmet() int {
	if m.Policy.Consistency == string(format.Fuzzy) {
		return 0
	}
	return m.Unconverged
}

// diagnose says in s why its state is not better, and what to do about it.
func (m *Machine) diagnose(s *Standing, now time.Time) {
	show := "openmigrate machines show " + m.Name
	set := "openmigrate machines set " + m.Name
	say := func(next, reason string, args ...any) { s.Reason, s.NextStep = fmt.Sprintf(reason, args...), next }
	open, _ := m.Policy.Window.Open(now) // the agent reports one that cannot be read
	limit := m.Policy.Bandwidth
	switch {
	case m.Revoked:
		say("enrol it again with a token of 'openmigrate tokens enroll', or: openmigrate machines rm "+m.Name, "its agent was shut out")
	case m.Frozen != "":
		say("find the second agent that uses this identity and stop it, then: openmigrate machines unfreeze "+m.Name, "%s", m.Frozen)
	case m.Hold != nil && s.State != Disconnected:
		s.NextStep, s.Reason = m.diagnoseHold()
	case m.Paused && m.Hold == nil:
		say("openmigrate machines resume "+m.Name, "it was paused")
	case s.State == Disconnected:
		say("on its host: openmigrate-agent status; it must run and reach this master", "its agent was not heard of for %s", roughly(now.Sub(m.LastSeen)))
	case s.State == Protected:
		s.NextStep = "none"
	case m.Failure != "":
		say("mend what it names, then: openmigrate machines sync "+m.Name+" --wait", "its last cycle failed: %s", m.Failure)
	case !open:
		say("wait until it opens, or: "+set+" --window always", "the window in which it may send (%s-%s UTC) is closed", m.Policy.Window.From, m.Policy.Window.To)
	case s.State == Enrolled:
		say("wait for its first restpoint, or: openmigrate machines sync "+m.Name, "no restpoint was made yet")
	case s.State == InitialSync, s.State == Rescanning:
		say("wait; follow it with: "+show, "its disks are read whole")
	case limit > 0 && (m.Pace.Demand > limit || m.Pace.Demand > limit-limit/8 && m.Pace.period(m.Interval) > m.Interval):
		say(fmt.Sprintf("give it more bandwidth: %s --bandwidth %d (0: no limit)", set, m.Pace.Demand*2),
			"its disks change as fast as the bandwidth limit lets through, or faster: %d bytes per second were to be sent, %d are allowed", m.Pace.Demand, limit)
	case m.unmet() > 0:
		say("a smaller chunk size or more bandwidth would help; see "+show+", then: "+set+" --chunk-size 65536",
			"its disks are written faster than they are read, so restpoints are of no one instant")
	case m.Pace.period(m.Interval) > m.Interval && m.scanned() != nil:
		d := m.scanned()
		say(m.widen(set), "cycles take %s, and the interval is %s: %s is read whole each time (%s)", roughly(m.Pace.Duration), roughly(m.Interval), d.Name, d.TrackerWhy)
	case m.Pace.period(m.Interval) > m.Interval:
		say(m.widen(set), "cycles take %s, and the interval is %s", roughly(m.Pace.Duration), roughly(m.Interval))
	case m.Session != "":
		say("wait; follow it with: "+show, "a cycle runs that began %s ago", roughly(now.Sub(m.Opened)))
	default:
		say("openmigrate machines sync "+m.Name+" --wait", "no cycle has begun since its last restpoint")
	}
}

// widen is the next step when an interval cannot be kept.
func (m *Machine) widen(set string) string {
	return fmt.Sprintf("make the interval longer: %s --interval %s", set, roughly(m.Pace.Duration+m.Pace.Duration/2))
}

// scanned returns a disk that is read whole in each cycle; nil when there is none.
func (m *Machine) scanned() *wire.DiskReport {
	for i := range m.Report.Disks {
		if m.Report.Disks[i].Tracker == "scan" {
			return &m.Report.Disks[i]
		}
	}
	return nil
}

// roughly rounds a duration up for people, to seconds or, above an hour, minutes.
func roughly(d time.Duration) time.Duration {
	unit := time.Second
	if d > time.Hour {
		unit = time.Minute
	}
	return max(0, (d + unit - 1).Truncate(unit))
}
