package api

import (
	"encoding/json"
	"net/http"
	"strings"
	gosync "sync"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

func (s *server) stagingStats(c *call) error {
	report, err := s.Staging.Stats(c.ctx)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, report)
}

func (s *server) recoveryKey(c *call) error {
	key, err := s.Staging.NewRecoveryKey(c.ctx, c.tok.Name+" "+time.Now().UTC().Format(time.DateOnly))
	if err != nil {
		return err
	}
	s.audit(c, "made recovery key", "")
	return c.answer(http.StatusCreated, wire.RecoveryKey{Key: key})
}

// stagingRun does a long operation on staging.
func (s *server) stagingRun(c *call) error {
	var run func(func(wire.Progress)) (any, error)
	switch op := c.r.PathValue("operation"); op {
	case "check", "check-deep":
		run = func(p func(wire.Progress)) (any, error) { return s.Staging.Check(c.ctx, op == "check-deep", p) }
	case "gc":
		run = func(p func(wire.Progress)) (any, error) { return s.Staging.Collect(c.ctx, p) }
	case "rebuild-index":
		run = func(p func(wire.Progress)) (any, error) { return s.Staging.Rebuild(c.ctx, p) }
	default:
		return wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no operation %.40q on staging", op)
	}
	op := "staging " + c.r.PathValue("operation")
	s.audit(c, "runs", op)
	return s.stream(c, op, time.Second, run)
}

// stream runs what takes long and writes a line of JSON for each step, but not two within pause, and the report or the problem last.
func (s *server) stream(c *call, what string, pause time.Duration, run func(tell func(wire.Progress)) (any, error)) error {
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(c.w)
	control := http.NewResponseController(c.w)
	_ = control.SetReadDeadline(time.Time{}) // over HTTP/1.1 the server's would end the request; over HTTP/2 there is none
	var mu gosync.Mutex
	last := time.Time{}
	report, err := run(func(p wire.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) < pause {
			return
		}
		last = time.Now()
		_ = out.Encode(wire.StagingLine{Progress: &p}) // a caller that is gone is noticed by the context
		_ = control.Flush()
	})
	line := wire.StagingLine{}
	if err == nil {
		line.Report, err = json.Marshal(report)
	}
	if err != nil {
		line.Problem = problemOf(err)
		s.Log.Error("operation failed", "operation", what, "error", err)
	}
	_ = out.Encode(line)
	return nil
}

// problemOf makes a problem of any error whose text an admin may see.
func problemOf(err error) *wire.Problem {
	if p := (*wire.Problem)(nil); asProblem(err, &p) {
		return p
	}
	if p := providerProblem(err); p != nil {
		return p
	}
	return wire.NewProblem(http.StatusInternalServerError, wire.CodeInternal, "%s", strings.TrimSpace(err.Error()))
}
