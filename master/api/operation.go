package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openmigrate/openmigrate/wire"
)

// Limits of operations.
const (
	maxRunning    = 8    // at once, of a project
	keptRuns      = 100  // that are over and remembered
	maxLines      = 2000 // of one; the oldest go
	maxLineText   = 2000 // bytes
	maxRunReport  = 16 << 20
	progressEvery = time.Second // between two events that say how far one is
)

// runs are operations: what takes longer than a request should. They are in memory: all can be repeated, and none is half done when the master dies.
type runs struct {
	tell func(kind, id, project string) // an operation changed

	mu     sync.Mutex
	all    []*run // guarded by mu, oldest first
	closed bool   // guarded by mu
	group  sync.WaitGroup
}

// run is one operation.
type run struct {
	project string
	cancel  context.CancelCauseFunc
	info    wire.OperationInfo // guarded by runs.mu
	shown   time.Time          // guarded by runs.mu; of the last event
}

// begin starts an operation and answers with it.
func (s *server) begin(ctx context.Context, kind, target string, do func(context.Context, func(wire.Progress)) (any, error)) (*operationOut, error) {
	p := person(ctx)
	r := &run{project: p.Project, info: wire.OperationInfo{ID: rand.Text(), Kind: kind, Target: target, State: wire.OperationRunning, By: p.Name, Started: time.Now().UTC(), Lines: []string{}}}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	r.cancel = cancel
	if err := s.runs.add(r); err != nil {
		cancel(nil)
		return nil, err
	}
	info := r.info
	s.changed(ctx, "operation", info.ID, kind+" "+target, nil, map[string]any{"kind": kind, "target": target})
	go func() {
		defer s.runs.group.Done()
		defer cancel(nil)
		report, err := s.guarded(work, r, do)
		s.end(work, r, report, err)
	}()
	return &operationOut{Location: wire.Path(wire.PathOperation, info.ID), Body: info}, nil
}

// guarded runs an operation; a bug in it ends it, and nothing else.
func (s *server) guarded(ctx context.Context, r *run, do func(context.Context, func(wire.Progress)) (any, error)) (report json.RawMessage, err error) {
	defer func() {
		if p := recover(); p != nil {
			id := rand.Text()[:8]
			s.Log.Error("operation panicked", "id", id, "operation", r.info.Kind, "panic", p, "stack", string(debug.Stack()))
			err = wire.NewProblem(http.StatusInternalServerError, wire.CodeInternal, "the master hit a bug").WithNext("look for " + id + " in the master's log")
		}
	}()
	v, err := do(ctx, func(p wire.Progress) { s.runs.progress(r, p) })
	if err != nil {
		return nil, err
	}
	if report, err = json.Marshal(v); err == nil && len(report) > maxRunReport {
		err = fmt.Errorf("the report has %d bytes, at most %d are kept", len(report), maxRunReport)
	}
	return report, err
}

func (s *server) end(ctx context.Context, r *run, report json.RawMessage, err error) {
	var problem *wire.Problem
	state := wire.OperationDone
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), errCancelled):
		state, problem = wire.OperationCancelled, wire.NewProblem(http.StatusConflict, wire.CodeConflict, "it was cancelled")
	default:
		state, problem = wire.OperationFailed, problemOf(err)
		s.Log.Error("operation failed", "operation", r.info.Kind, "target", r.info.Target, "error", err)
	}
	s.runs.change(r, true, func(info *wire.OperationInfo) {
		info.State, info.Ended, info.Report, info.Problem = state, time.Now().UTC(), report, problem
	})
}

var errCancelled = errors.New("the operation was cancelled")

func (a *runs) add(r *run) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return wire.NewProblem(http.StatusServiceUnavailable, wire.CodeUnavailable, "the master is stopping")
	}
	running := 0
	over := 0
	for _, o := range a.all {
		switch {
		case o.info.State != wire.OperationRunning:
			over++
		case o.project == r.project:
			running++
		}
	}
	if running >= maxRunning {
		return wire.NewProblem(http.StatusConflict, wire.CodeBusy, "%d operations run already", running).WithNext("wait for one, or cancel one")
	}
	for i := 0; over > keptRuns; i++ {
		if a.all[i].info.State != wire.OperationRunning {
			a.all = slices.Delete(a.all, i, i+1)
			over--
			i--
		}
	}
	a.all = append(a.all, r)
	a.group.Add(1)
	return nil
}

// change changes what is known of an operation. Events for progress are not sent more often than people can look.
func (a *runs) change(r *run, always bool, fn func(*wire.OperationInfo)) {
	a.mu.Lock()
	fn(&r.info)
	tell := always || time.Since(r.shown) >= progressEvery
	if tell {
		r.shown = time.Now()
	}
	a.mu.Unlock()
	if tell && a.tell != nil {
		a.tell("operation", r.info.ID, r.project)
	}
}

func (a *runs) progress(r *run, p wire.Progress) {
	a.change(r, false, func(info *wire.OperationInfo) {
		if p.Message != "" {
			info.Lines = append(info.Lines, cutText(strings.ToValidUTF8(p.Message, "?"), maxLineText))
			info.Lines = info.Lines[max(0, len(info.Lines)-maxLines):]
		}
		info.Progress = &p
	})
}

// list returns a project's operations; find one of them.
func (a *runs) list(project string) []wire.OperationInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []wire.OperationInfo
	for _, r := range a.all {
		if r.project == project {
			info := r.info
			info.Lines = slices.Clone(info.Lines)
			out = append(out, info)
		}
	}
	return out
}

func (a *runs) find(project, id string) (*run, wire.OperationInfo, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.all {
		if r.project == project && r.info.ID == id {
			info := r.info
			info.Lines = slices.Clone(info.Lines)
			return r, info, nil
		}
	}
	return nil, wire.OperationInfo{}, wire.NewProblem(http.StatusNotFound, wire.CodeNotFound, "there is no operation %.64q", id).
		WithNext("operations are not remembered for ever, nor when the master has restarted: run it again")
}

// close stops all operations and waits for them.
func (a *runs) close() {
	a.mu.Lock()
	a.closed = true
	for _, r := range a.all {
		r.cancel(errCancelled)
	}
	a.mu.Unlock()
	a.group.Wait()
}

type listOperationsIn struct {
	PageParams
	Kind  []string `query:"kind" maxItems:"16" doc:"Any of these kinds."`
	State []string `query:"state" maxItems:"8" doc:"Any of these: running, done, failed, cancelled."`
}

func (s *server) listOperations(ctx context.Context, in *listOperationsIn) (*pageOut[wire.OperationInfo], error) {
	out := slices.DeleteFunc(s.runs.list(person(ctx).Project), func(o wire.OperationInfo) bool {
		return !oneOf(in.Kind, o.Kind) || !oneOf(in.State, o.State)
	})
	for i := range out {
		out[i].Report, out[i].Lines = nil, []string{}
	}
	return listed(out, &in.PageParams, "-started", func(o *wire.OperationInfo) sortKey { return sortKey{Number: o.Started.UnixNano(), ID: o.ID} })
}

type operationRef struct {
	Operation string `path:"operation" maxLength:"256"`
}

type getOperationOut struct{ Body wire.OperationInfo }

func (s *server) getOperation(ctx context.Context, in *operationRef) (*getOperationOut, error) {
	_, info, err := s.runs.find(person(ctx).Project, in.Operation)
	if err != nil {
		return nil, err
	}
	return &getOperationOut{info}, nil
}

func (s *server) cancelOperation(ctx context.Context, in *operationRef) (*struct{}, error) {
	r, info, err := s.runs.find(person(ctx).Project, in.Operation)
	if err != nil {
		return nil, err
	}
	if info.State != wire.OperationRunning {
		return nil, wire.NewProblem(http.StatusConflict, wire.CodeConflict, "the operation is over: it is %s", info.State)
	}
	r.cancel(errCancelled)
	s.changed(ctx, "operation", info.ID, info.Kind, map[string]any{"state": info.State}, map[string]any{"state": wire.OperationCancelled})
	return nil, nil
}

// problemOf makes a problem of any error whose text an admin may see.
func problemOf(err error) *wire.Problem {
	if p := (*wire.Problem)(nil); asProblem(err, &p) {
		return p
	}
	if p := providerProblem(err); p != nil {
		return p
	}
	return wire.NewProblem(http.StatusInternalServerError, wire.CodeInternal, "%s", cutText(strings.TrimSpace(err.Error()), maxLineText))
}
