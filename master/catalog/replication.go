package catalog

import "time"

// What Machine.Replication says.
const (
	Enrolled     = "enrolled"     // nothing was ever sent
	InitialSync  = "initial-sync" // the first restpoint is being made
	Protected    = "protected"    // the newest restpoint is as new as it should be
	Lagging      = "lagging"      // it is older than two intervals
	Stalled      = "stalled"      // it is older than six
	Rescanning   = "rescanning"   // the base was lost: all is read and offered again
	Paused       = "paused"       //
	Disconnected = "disconnected" // the agent was not heard of for three minutes
)

const (
	disconnectedAfter = 3 * time.Minute
	laggingAfter      = 2 // intervals
	stalledAfter      = 6 // intervals
	leastLag          = 5 * time.Minute
)

// Replication says how a machine's replication stands. It compares wall clocks and is for people to look at; nothing
// is decided by it.
//
//	enrolled → initial-sync → protected ⇄ lagging → stalled; beside them rescanning, paused, disconnected
func (m Machine) Replication(now time.Time) string {
	age := now.Sub(m.LastTime)
	switch {
	case m.Paused:
		return Paused
	case now.Sub(m.LastSeen) > disconnectedAfter:
		return Disconnected
	case m.LastRestpoint == "" && m.Session != "":
		return InitialSync
	case m.LastRestpoint == "":
		return Enrolled
	case m.Rescanning:
		return Rescanning
	case m.Interval <= 0:
		return Protected // only made when asked for: never late
	case age > max(stalledAfter*m.Interval, leastLag):
		return Stalled
	case age > max(laggingAfter*m.Interval, leastLag):
		return Lagging
	}
	return Protected
}
