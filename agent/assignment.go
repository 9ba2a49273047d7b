package agent

import (
	"context"
	"time"

	"github.com/openmigrate/openmigrate/internal/enrol"
	"github.com/openmigrate/openmigrate/wire"
)

// assignmentFile holds the last assignment, with the project's keys: readable by the owner only.
const assignmentFile = "assignment.json"

// pollWait is how long the master may hold a poll.
const pollWait = 30 * time.Second

// loadAssignment takes up the assignment that an earlier process held.
func (a *agent) loadAssignment() error {
	held := new(wire.Assignment)
	ok, err := a.dir.Read(assignmentFile, held)
	if ok && held.Project == a.member.Identity().Project {
		a.mu.Lock()
		a.assignment = held
		a.mu.Unlock()
	}
	return err
}

// current is the assignment that is held; nil: none yet. It is not changed once it is there.
func (a *agent) current() *wire.Assignment {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.assignment
}

// poll waits for assignments. It returns when ctx ends, or when the master refuses the identity for good.
func (a *agent) poll(ctx context.Context) error {
	b := enrol.NewBackoff(500*time.Millisecond, 30*time.Second)
	version := uint64(0) // asked for anew at each start: the one that is held may be of a master that was rolled back
	for stale := 0; ; {
		next, err := a.client.Assignment(ctx, version, pollWait)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if enrol.Final(err) || wire.HasCode(err, wire.CodeNotFound) { // removed
				return err
			}
			switch {
			case wire.HasCode(err, wire.CodeUnauthorized): // this host's clock hides that the certificate has run out
				notify(a.rehello)
			case wire.HasCode(err, wire.CodeStale):
				if stale++; stale > maxStale {
					stale = 0
					notify(a.rehello)
				}
			default:
				a.log.Debug("poll for the assignment", "error", err)
			}
			if b.Wait(ctx) != nil {
				return nil
			}
			continue
		}
		b.Reset()
		stale = 0
		if next == nil {
			continue
		}
		version = next.Version
		if err := a.dir.Write(assignmentFile, next); err != nil {
			a.log.Warn("the assignment could not be kept", "error", err)
		}
		a.mu.Lock()
		a.assignment = next
		a.mu.Unlock()
		notify(a.news)
	}
}

// maxStale is how many polls in a row may be refused for their generation before the agent says Hello again. One or two are
// normal while a Hello is under way.
const maxStale = 3

// notify leaves one token.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
