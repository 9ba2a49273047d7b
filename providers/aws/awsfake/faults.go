package awsfake

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Fault makes calls fail.
type Fault struct {
	Action string // "ec2:RunInstances"; any when empty
	Not    string // an action that it passes by
	Nth    int    // of the calls that match, from 1; 0 means 1
	Times  int    // how many in a row from there on; 0 means 1, negative means all
	// One of: the work is done and the connection is closed without an answer; or the call is refused with a code, undone.
	Lose bool
	Code string // "RequestLimitExceeded", "InsufficientInstanceCapacity", "InternalError"…

	seen int
}

// SetFaults replaces the faults and counts from 0 again.
func (s *Server) SetFaults(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	for _, f := range faults {
		s.faults = append(s.faults, &f)
	}
}

// Lost is how many answers were lost after the work was done.
func (s *Server) Lost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// hit returns the fault that a call falls under. The caller holds mu.
func (s *Server) hit(name string) *Fault {
	var found *Fault
	for _, f := range s.faults {
		if f.Action != "" && f.Action != name || f.Not == name {
			continue
		}
		f.seen++
		first, times := max(f.Nth, 1), f.Times
		if times == 0 {
			times = 1
		}
		if found == nil && f.seen >= first && (times < 0 || f.seen < first+times) {
			found = f
		}
	}
	return found
}

// admit asks whether a call may be worked on at all. The caller holds mu.
func (s *Server) admit(who caller, name string, f *Fault) error {
	if f != nil && f.Code != "" {
		return refusal(who.service, f.Code, name, who.principal)
	}
	if s.opts.Allow != nil && !s.opts.Allow(who.principal, name) {
		return refusal(who.service, "UnauthorizedOperation", name, who.principal)
	}
	l := s.opts.Limits
	switch {
	case who.service == "ec2" && l.CallRate > 0 && !s.take(name, l.CallBurst, l.CallRate):
		return refusal(who.service, "RequestLimitExceeded", name, who.principal)
	case (name == "ebs:StartSnapshot" || name == "ebs:CompleteSnapshot") && l.StartRate > 0 && !s.take(name, l.StartRate, l.StartRate),
		name == "ebs:PutSnapshotBlock" && l.PutRate > 0 && !s.take(name, l.PutRate, l.PutRate):
		return refusal(who.service, "RequestLimitExceeded", name, who.principal)
	}
	return nil
}

// refusal is how each service words a refusal that has nothing to do with the request's parameters.
func refusal(service, code, name, principal string) error {
	e := &apiError{http.StatusBadRequest, code, "The request was refused (" + code + ").", ""}
	switch code {
	case "UnauthorizedOperation", "AccessDenied", "AccessDeniedException":
		// The message names principal and action: "Access denied error message examples" in the IAM user guide.
		e.status = http.StatusForbidden
		e.message = fmt.Sprintf("User: %s is not authorized to perform: %s because no identity-based policy allows the %s action", principal, name, name)
		switch service {
		case "ec2":
			e.code, e.message = "UnauthorizedOperation", "You are not authorized to perform this operation. "+e.message
		case "sts":
			e.code = "AccessDenied"
		default:
			e.code, e.reason = "AccessDeniedException", "UNAUTHORIZED_ACCOUNT"
		}
	case "RequestLimitExceeded":
		e.status, e.message = http.StatusServiceUnavailable, "Request limit exceeded."
		if service == "ebs" { // EBS/PutSnapshotBlock
			e.status, e.code, e.message, e.reason = http.StatusBadRequest, "RequestThrottledException", "The rate of requests is too high", "ACCOUNT_THROTTLED"
		}
	case "InsufficientInstanceCapacity":
		e.status, e.message = http.StatusInternalServerError, "We currently do not have sufficient capacity in the Availability Zone you requested."
	case "InternalError", "Unavailable", "ServiceUnavailable":
		e.status, e.message = http.StatusInternalServerError, "An internal error has occurred"
		if service == "ebs" {
			e.code = "InternalServerException"
		}
	}
	return e
}

// bucket is a token bucket, which EC2's throttling is: UG/ec2-api-throttling.
type bucket struct {
	tokens float64
	at     time.Time
}

// take takes a token. The caller holds mu.
func (s *Server) take(name string, burst, rate float64) bool {
	now, b := s.now(), s.buckets[name]
	if b == nil {
		b = &bucket{tokens: max(burst, 1), at: now}
		s.buckets[name] = b
	}
	b.tokens = min(max(burst, 1), b.tokens+rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// idempotent is what a client token stands for.
type idempotent struct {
	request string
	id      string
}

// once looks a client token up: the id of what it made, or "" for a new one. The same token with other parameters is an error
// ("Ensuring idempotency in Amazon EC2 API requests").
func (s *Server) once(c *call) (id, key, request string, err error) {
	token := c.in["ClientToken"]
	if token == "" {
		return "", "", "", nil
	}
	if len(token) > 64 || strings.IndexFunc(token, func(r rune) bool { return r < '!' || r > '~' }) >= 0 {
		return "", "", "", fail("InvalidParameterValue", "clientToken: up to 64 ASCII characters")
	}
	key, request = c.action+" "+token, fmt.Sprint(c.in) // printed in the order of keys
	if made, ok := s.tokens[key]; ok {
		if made.request != request {
			return "", "", "", fail("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
		}
		return made.id, key, request, nil
	}
	return "", key, request, nil
}

// made notes what a token made.
func (s *Server) made(key, request, id string) {
	if key != "" {
		s.tokens[key] = idempotent{request, id}
	}
}
