package wire

import (
	"errors"
	"fmt"
	"net/http"
)

// Problem is an RFC 9457 problem document, the body of every error that the master answers. Code is stable and meant for programs;
// Next tells a person what to do.
type Problem struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
	Next   string `json:"next,omitempty"`
	Field  string `json:"field,omitempty"`
}

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

// Codes of problems. They map onto the errors below with errors.Is.
const (
	CodeBadRequest   = "bad-request"
	CodeUnauthorized = "unauthorized"   // no or wrong credentials
	CodeTokenUsed    = "token-used"     // enrolment token was used
	CodeTokenExpired = "token-expired"  // enrolment token is too old
	CodeRevoked      = "revoked"        // this identity was revoked
	CodeFrozen       = "frozen"         // this identity was seen twice
	CodeForbidden    = "forbidden"      // not allowed for this role or identity
	CodeNotFound     = "not-found"      //
	CodeConflict     = "conflict"       // the thing is in another state
	CodeFenced       = "fenced"         // the session or job lease ended; start a new one
	CodeBusy         = "busy"           // somebody else holds it
	CodeFulfilled    = "fulfilled"      // the restpoint that was asked for exists
	CodeMissing      = "missing-chunks" // a manifest names what staging does not have; Detail lists some
	CodeStale        = "stale"          // the generation or parent is not the newest
	CodeTooLarge     = "too-large"      //
	CodeStaging      = "staging"        // the bucket failed
	CodeFull         = "full"           // disk or quota is full
	CodeInternal     = "internal"       //
	CodeUnavailable  = "unavailable"    // starting or stopping; try again
	CodeProvider     = "provider"       // the provider refused or failed
	CodeNewerVersion = "newer-version"  // written by a newer version
	CodeChanged      = "changed"        // it is not any more what If-Match says
	CodeNoMatch      = "match-required" // If-Match is needed
	CodeKeyReused    = "key-reused"     // the idempotency key was used for another request
	CodeUnsupported  = "unsupported"    // this master, or this provider, cannot do that
	CodeCrossOrigin  = "cross-origin"   // a browser sent it for a page of another site
)

// Error makes a Problem an error.
func (p *Problem) Error() string {
	s := p.Detail
	if s == "" {
		s = p.Title
	}
	if p.Next != "" {
		s += " (" + p.Next + ")"
	}
	return s
}

// GetStatus is its HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of a Problem, whatever that of other answers is.
func (p *Problem) ContentType(string) string { return ProblemType }

// NewProblem makes a problem with the title of its status.
func NewProblem(status int, code, format string, args ...any) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// WithNext adds what to do.
func (p *Problem) WithNext(next string) *Problem { p.Next = next; return p }

// HasCode reports whether err is, or wraps, a Problem with that code.
func HasCode(err error, code string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Code == code
}
