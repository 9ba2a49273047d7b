package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/wire"
)

func (s *server) registerStaging(api huma.API) {
	add(s, api, op{id: "get-staging", method: "GET", path: wire.PathStaging, tag: "staging", summary: "Count what is in staging",
		text: "The whole index is read for it, so what was counted in the last minute is given again unless fresh is set."}, s.getStaging)
	add(s, api, op{id: "run-staging", method: "POST", path: wire.PathStagingRun, tag: "staging", summary: "Check staging, collect garbage, or make the index anew",
		status: http.StatusAccepted, creates: true}, s.runStaging)
	add(s, api, op{id: "create-recovery-key", method: "POST", path: wire.PathRecoveryKey, tag: "staging", summary: "Make an offline key that opens the bucket when the master is lost",
		text: "It is in the answer and nowhere else.", status: http.StatusCreated, creates: true}, s.createRecoveryKey)
	add(s, api, op{id: "list-operations", method: "GET", path: wire.PathOperations, tag: "operations", summary: "List what runs long, newest first",
		text: "What is over is remembered for a while, and not when the master has restarted."}, s.listOperations)
	add(s, api, op{id: "get-operation", method: "GET", path: wire.PathOperation, tag: "operations", summary: "Show an operation"}, s.getOperation)
	add(s, api, op{id: "cancel-operation", method: "POST", path: wire.PathOperationCancel, tag: "operations", summary: "Stop an operation"}, s.cancelOperation)
}

// statsAge is how old counts may be that are given again.
const statsAge = time.Minute

type getStagingIn struct {
	Fresh bool `query:"fresh" doc:"Count now."`
}

type stagingOut struct{ Body wire.StagingStats }

func (s *server) getStaging(ctx context.Context, in *getStagingIn) (*stagingOut, error) {
	s.counting.Lock() // one count at a time serves all who wait for it
	defer s.counting.Unlock()
	if s.counted != nil && !in.Fresh && time.Since(s.countedAt) < statsAge {
		return &stagingOut{*s.counted}, nil
	}
	stats, err := s.Staging.Stats(ctx)
	if err != nil {
		return nil, err
	}
	s.counted, s.countedAt = &stats, time.Now()
	return &stagingOut{stats}, nil
}

type recoveryKeyIn struct{ Idempotent }

type recoveryKeyOut struct{ Body wire.RecoveryKey }

func (s *server) createRecoveryKey(ctx context.Context, _ *recoveryKeyIn) (*recoveryKeyOut, error) {
	key, err := s.Staging.NewRecoveryKey(ctx, person(ctx).Name+" "+time.Now().UTC().Format(time.DateOnly))
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "project", person(ctx).Project, "", nil, map[string]any{"recovery_key": "made"})
	return &recoveryKeyOut{wire.RecoveryKey{Key: key}}, nil
}

type runStagingIn struct {
	Idempotent
	Action string `path:"action" enum:"check,check-deep,gc,rebuild-index" doc:"check compares the index with the bucket, check-deep also what each pack lists; gc deletes what nothing needs; rebuild-index makes the index from the bucket alone."`
}

type operationOut struct {
	Location string `header:"Location"`
	Body     wire.OperationInfo
}

func (s *server) runStaging(ctx context.Context, in *runStagingIn) (*operationOut, error) {
	var run func(context.Context, func(wire.Progress)) (any, error)
	switch in.Action {
	case "check", "check-deep":
		run = func(ctx context.Context, p func(wire.Progress)) (any, error) {
			return s.Staging.Check(ctx, in.Action == "check-deep", p)
		}
	case "gc":
		run = s.Staging.Collect
	case "rebuild-index":
		run = s.Staging.Rebuild
	default: // the document says so, too
		return nil, badField("action", "there is no operation %.40q on staging", in.Action)
	}
	return s.begin(ctx, "staging-"+in.Action, "", run)
}
