package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/wire"
)

// codes are those of what is refused before a handler sees it.
var codes = map[int]string{
	http.StatusUnauthorized: wire.CodeUnauthorized, http.StatusForbidden: wire.CodeForbidden, http.StatusNotFound: wire.CodeNotFound,
	http.StatusRequestTimeout: wire.CodeUnavailable, http.StatusRequestEntityTooLarge: wire.CodeTooLarge, http.StatusInternalServerError: wire.CodeInternal,
}

// shownFaults is how many faults of one request are told.
const shownFaults = 5

// newProblem makes a problem of what was found wrong with a request: the first field that is at fault, and what is the matter with each.
func newProblem(status int, message string, errs ...error) huma.StatusError {
	code := codes[status]
	switch {
	case status == http.StatusUnprocessableEntity:
		status, code = http.StatusBadRequest, wire.CodeBadRequest
	case code == "" && status < 500:
		code = wire.CodeBadRequest
	case code == "":
		code = wire.CodeInternal
	}
	p := wire.NewProblem(status, code, "%s", message)
	var faults []string
	for _, err := range errs {
		var d *huma.ErrorDetail
		if !errors.As(err, &d) {
			if err != nil && status < 500 {
				faults = append(faults, err.Error())
			}
			continue
		}
		field := fieldOf(d.Location)
		if p.Field == "" {
			p.Field = field
		}
		if field != "" {
			faults = append(faults, field+": "+d.Message)
		} else {
			faults = append(faults, d.Message)
		}
	}
	if n := len(faults); n > 0 {
		if n > shownFaults {
			faults = append(faults[:shownFaults], "…")
		}
		p.Detail = strings.ToValidUTF8(cutText(strings.Join(faults, "; "), 600), "?")
	}
	return p
}

func cutText(s string, most int) string {
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// fieldOf is where a fault is, as people write it: body.template.cpus is template.cpus.
func fieldOf(location string) string {
	for _, part := range []string{"body", "query", "path", "header"} {
		if rest, ok := strings.CutPrefix(location, part); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return cutText(strings.TrimPrefix(rest, "."), 200)
		}
	}
	return cutText(location, 200)
}

// failed is where a request failed, for the log and for what may be told of it.
type failed struct {
	path, caller string
	limit        int64 // bytes of body
	public       bool  // the caller may hear what a provider said
}

// problem makes of any error what the caller may hear of it. What is nobody's business but the operator's of the master goes to the log.
func (s *server) problem(ctx context.Context, at failed, err error) *wire.Problem {
	var p *wire.Problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(context.Cause(ctx), &p): // revoked in the middle of the request
		return p
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLarge):
		return wire.NewProblem(http.StatusRequestEntityTooLarge, wire.CodeTooLarge, "the body is longer than %d bytes", at.limit)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return wire.NewProblem(http.StatusServiceUnavailable, wire.CodeUnavailable, "the request was given up")
	case errors.Is(err, store.ErrFull):
		s.Log.Error("the database cannot grow", "path", at.path, "caller", at.caller, "error", err)
		return wire.NewProblem(http.StatusInsufficientStorage, wire.CodeFull, "the master's disk is full").WithNext("make room on the disk that holds the master's data directory")
	case errors.Is(err, staging.ErrFull):
		return wire.NewProblem(http.StatusInsufficientStorage, wire.CodeFull, "staging is full").WithNext("free space in staging: remove restpoints and run 'openmigrate staging gc', or enlarge it")
	case errors.Is(err, staging.ErrTemporary), errors.Is(err, staging.ErrDenied), errors.Is(err, staging.ErrNotFound):
		s.Log.Warn("staging failed", "path", at.path, "caller", at.caller, "error", err)
		return wire.NewProblem(http.StatusBadGateway, wire.CodeStaging, "staging failed: %v", err)
	case at.public && providerProblem(err) != nil:
		s.Log.Warn("provider failed", "path", at.path, "caller", at.caller, "error", err)
		return providerProblem(err)
	}
	s.Log.Error("request failed", "path", at.path, "caller", at.caller, "error", err)
	return wire.NewProblem(http.StatusInternalServerError, wire.CodeInternal, "the master failed; its log says why")
}

func writeProblem(w http.ResponseWriter, p *wire.Problem) {
	w.Header().Set("Content-Type", wire.ProblemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller may be gone
}

func asProblem(err error, p **wire.Problem) bool { return errors.As(err, p) }
