package launch

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/openmigrate/openmigrate/internal/telemetry"
	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

// The states of a launch, and what moves it:
//
//	                            inspect: refused, or any step that fails for good
//	   ┌──────────┬────────────┬─────────────┬─────────────┬─────────────┐
//	   │          │            │             │             │             ▼
//	pending ─► syncing ─► hydrating ─► converting ─► starting ─► checking   cleaning ─► failed
//	   │      (cutover      ▲    │       (not as-is     ▲            │          │         │ kept
//	   │       without a    │    │        or instant)   │            ▼          │         ▼
//	   └───────restpoint)───┘    └──────────────────────┘        running ───┐   │     reverting ─► reverted
//	                                                                │       │   │         ▲
//	                                                 finalize       ▼       └── revert, ──┤
//	                                                            finalized   a test's deadline
//	                                                                        (from any state, cleaning too)
//
// A test that was started instantly goes from running to cleaning, too, when the node that shows its disks is gone before they were copied.
//
// Each state is a function that looks at the world and does the next thing that is missing, with tokens and ids that follow from the launch's id
// alone: called again after any crash it finds what it did, and does no second one. An arrow is one transaction; nothing is called outside before the state
// in which it is called is durable.
var states = map[string]func(context.Context, *run) (string, error){
	wire.LaunchPending:    pending,
	wire.LaunchSyncing:    syncing,
	wire.LaunchHydrating:  hydrating,
	wire.LaunchConverting: converting,
	wire.LaunchStarting:   starting,
	wire.LaunchChecking:   checking,
	wire.LaunchRunning:    running,
	wire.LaunchCleaning:   cleaning,
	wire.LaunchReverting:  reverting,
}

// run is one look at a launch.
type run struct {
	*Service
	row   row
	p     providers.Provider
	pause time.Duration // until the next look, when the state stays
}

// refusal ends a launch: trying again would not help.
type refusal struct {
	reason  string
	cause   string // as the console tells it
	console []byte
	ends    bool // also a launch that runs
}

func (r *refusal) Error() string { return r.reason }

func refuse(format string, args ...any) error { return &refusal{reason: fmt.Sprintf(format, args...)} }

// trouble is how long a launch has had an error that may pass.
type trouble struct {
	since time.Time
	count int
	last  string
}

// For how long errors that may pass are waited out, before they end the launch.
const (
	patience      = 2 * time.Minute  // with what nobody has classified
	longPatience  = 15 * time.Minute // with ErrTryAgain, and the master's own
	longestPause  = 30 * time.Second
	quietPause    = 30 * time.Second // between two looks at a machine that runs
	consoleBudget = 15 * time.Second // for the last console and screenshot
)

// advance takes a launch one look further, and says when to look again; over: never.
func (s *Service) advance(ctx context.Context, id string, w *worker) (pause time.Duration, over bool) {
	r := &run{Service: s, pause: s.Pause}
	err := s.DB.View(ctx, func(tx store.Reader) (err error) {
		r.row, err = getRow(tx, id)
		return err
	})
	if wire.HasCode(err, wire.CodeNotFound) {
		return 0, true
	}
	was := r.row.State
	if err == nil {
		if r.row.over() {
			return 0, true
		}
		err = r.look(ctx)
	}
	if ctx.Err() != nil {
		return s.Pause, false
	}
	if err == nil {
		w.trouble = trouble{}
		if r.row.State != was {
			return 0, r.row.over()
		}
		return r.pause, false
	}
	return s.troubled(ctx, r, w, err)
}

// look does the next thing.
func (r *run) look(ctx context.Context) error {
	undoing := r.row.State == wire.LaunchReverting || r.row.State == wire.LaunchCleaning
	if r.row.Revert != "" && r.row.State != wire.LaunchReverting {
		r.keepEvidence(ctx)
		return r.enter(ctx, wire.LaunchReverting, func(l *row) { l.say(r.Clock.Now(), "reverted by %s", l.Revert) })
	}
	var err error
	if r.p, err = r.provider(r.row.Provider); err != nil {
		// It may be back after the master's next start.
		return fmt.Errorf("%w: %w", providers.ErrTryAgain, err)
	}
	if r.row.Held && !undoing {
		if err := r.watchHold(ctx); err != nil {
			return err
		}
	}
	next, err := states[r.row.State](ctx, r)
	if err != nil || next == "" {
		return err
	}
	return r.enter(ctx, next, nil)
}

// troubled decides what an error means.
func (s *Service) troubled(ctx context.Context, r *run, w *worker, err error) (time.Duration, bool) {
	now := s.Clock.Now()
	t := &w.trouble
	if t.count == 0 {
		t.since = now
	}
	t.count++
	undoing := r.row.State == wire.LaunchReverting || r.row.State == wire.LaunchCleaning
	var refused *refusal
	mayEnd := r.row.State != wire.LaunchRunning || errors.As(err, &refused) && refused.ends
	if r.row.ID != "" && !undoing && mayEnd && final(err, now.Sub(t.since)) {
		if ferr := r.fail(ctx, err); ferr == nil {
			*t = trouble{}
			return 0, false
		} else if ctx.Err() == nil {
			s.Log.Warn("a launch's failure could not be written down; it is tried again", "launch", r.row.ID, "error", ferr)
		}
	}
	if text := err.Error(); text != t.last && r.row.ID != "" && ctx.Err() == nil {
		t.last = text
		s.Log.Warn("a launch does not get on; it is tried again", "launch", r.row.ID, "state", r.row.State, "error", err)
		// Without this line it goes on all the same.
		_ = r.save(ctx, func(l *row) { l.step().Message = clean("tried again: "+text, maxLine) })
	}
	return min(s.Pause<<min(t.count, 5), max(longestPause, s.Pause)), false
}

// final reports whether an error ends a launch that has had it for so long.
func final(err error, since time.Duration) bool {
	var refused *refusal
	var problem *wire.Problem
	switch {
	case errors.As(err, &refused):
		return true
	case errors.Is(err, providers.ErrTryAgain), errors.Is(err, store.ErrFull):
		return since > longPatience
	case errors.As(err, &problem):
		return problem.Status < 500 && problem.Status != 429 || since > longPatience
	}
	for _, class := range []error{providers.ErrNotFound, providers.ErrDenied, providers.ErrQuota, providers.ErrConflict, providers.ErrInvalid} {
		if errors.Is(err, class) {
			return true
		}
	}
	return since > patience
}

// fail writes down why a launch ends, with what its console shows, and begins to clean up.
func (r *run) fail(ctx context.Context, err error) error {
	f := &wire.LaunchFailure{Step: r.row.State, Reason: clean(err.Error(), maxLine)}
	var refused *refusal
	var console []byte
	if errors.As(err, &refused) {
		f.Cause, console = clean(refused.cause, maxLine), refused.console
	}
	if kept := r.keepEvidence(ctx); console == nil {
		console = kept
	}
	if f.Console = tail(console); f.Cause == "" && len(console) > 0 {
		if cause, found := likelyCause(console); found {
			f.Cause = cause.words
		}
	}
	return r.enter(ctx, wire.LaunchCleaning, func(l *row) {
		l.Failure = f
		l.say(r.Clock.Now(), "%s failed: %s", f.Step, f.Reason)
		if f.Cause != "" {
			l.say(r.Clock.Now(), "likely cause: %s", f.Cause)
		}
	})
}

// save changes the row.
func (r *run) save(ctx context.Context, fn func(*row)) error {
	l, err := r.change(ctx, r.row.ID, func(_ store.Writer, l *row) error {
		fn(l)
		return nil
	})
	if err == nil {
		r.row = l
	}
	return err
}

// enter moves the launch to another state, with what belongs to that.
func (r *run) enter(ctx context.Context, state string, fn func(*row)) error {
	now := r.Clock.Now()
	var left wire.LaunchStep
	l, err := r.change(ctx, r.row.ID, func(w store.Writer, l *row) error {
		if len(l.Steps) > 0 {
			left = *l.step()
		}
		if fn != nil {
			fn(l)
		}
		if !isOver(state) {
			l.begin(state, now)
		} else {
			l.step().Ended = now
			l.State, l.Ended, l.Secret = state, now, ""
		}
		l.arrived(now)
		return remember(w, l)
	})
	if err != nil {
		return err
	}
	r.row = l
	r.show(nil)
	l.trace(ctx, &left, now)
	r.Log.Info("launch", "launch", l.ID, "machine", l.MachineName, "kind", l.Kind, "state", l.State)
	if l.over() {
		return r.retire(ctx)
	}
	return nil
}

// trace records the state that a launch has left, and in the end the launch, which is the root of its trace.
func (r *row) trace(ctx context.Context, left *wire.LaunchStep, now time.Time) {
	if left.Name != "" {
		telemetry.Record(telemetry.Under(ctx, r.ID), "launch "+left.Name, left.Started, now)
	}
	if r.over() {
		telemetry.Record(telemetry.Root(ctx, r.ID), "launch", r.Created, now, attribute.String("openmigrate.launch.kind", r.Kind), attribute.String("openmigrate.launch.state", r.State))
	}
}

// begin is the row's part of entering a state.
func (r *row) begin(state string, now time.Time) {
	if len(r.Steps) > 0 {
		r.step().Ended, r.step().Progress = now, nil
	}
	r.Steps = append(r.Steps, wire.LaunchStep{Name: state, Started: now})
	r.State = state
}

// arrived fills in what a state begins with.
func (r *row) arrived(now time.Time) {
	switch r.State {
	case wire.LaunchSyncing:
		r.Held = true
	case wire.LaunchRunning:
		r.Ran, r.Took = now, now.Sub(r.Created)
		if d := time.Duration(r.Template.Deadline); r.Kind == wire.LaunchTest && d >= 0 {
			if d == 0 {
				d = defaultDeadline
			}
			r.Deadline = now.Add(d)
		}
		r.say(now, "it runs, %s after it was asked for", r.Took.Round(time.Second/10))
	case wire.LaunchFailed:
		r.Kept = r.Keep
	case wire.LaunchReverted:
		r.Kept = false
	}
}

// show keeps the progress of the present state in memory.
func (r *run) show(p *wire.Progress) {
	r.mu.Lock()
	was, had := r.shown[r.row.ID]
	if p == nil {
		delete(r.shown, r.row.ID)
	} else {
		r.shown[r.row.ID] = *p
	}
	r.mu.Unlock()
	if p != nil && (!had || !reflect.DeepEqual(was, *p)) { // that a state is over is in the row
		r.Moved(r.row.ID, r.row.Project, r.row.Machine)
	}
}

// note says what the present step waits for.
func (r *run) note(ctx context.Context, format string, args ...any) error {
	text := clean(fmt.Sprintf(format, args...), maxLine)
	if r.row.step().Message == text {
		return nil
	}
	return r.save(ctx, func(l *row) { l.step().Message = text })
}
