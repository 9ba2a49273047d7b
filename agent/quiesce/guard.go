package quiesce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/openmigrate/openmigrate/agent/quiesce/hooks"
)

// The guard is a second process beside the watchdog, there as long as hooks are. When the agent dies it calls with thaw those that were called
// with freeze and not with thaw since. Its arguments are guardVerb, the time limit of a call and the hooks; descriptor 3 is read for two-byte
// messages: 'f' i before hook i is called with freeze, 't' i after it was called with thaw; 4 takes one byte when it is ready.
//
// A hook whose thaw the agent's death cut short is called with it again.
const guardVerb = "hooks"

type guard struct{ *watchdog }

// startGuard starts the guard of a set's hooks and has the set tell it. Without hooks, or with such as are refused, there is nothing to guard.
func startGuard(argv []string, set *hooks.Set) (*guard, error) {
	paths, err := set.List()
	if err != nil || len(paths) == 0 {
		return nil, nil // Freeze has the error
	}
	w, err := spawn(argv, nil, append([]string{guardVerb, set.Timeout.String()}, paths...)...)
	if err != nil {
		return nil, fmt.Errorf("start guard of hooks: %w", err)
	}
	set.Note = func(path, verb string) {
		if i := slices.Index(paths, path); i >= 0 {
			_ = w.send(verb[0], byte(i)) // a guard that died guards nothing, and is no reason not to thaw
		}
	}
	return &guard{w}, nil
}

// end ends the guard, after the last hook.
func (g *guard) end() {
	if g == nil {
		return
	}
	_ = g.stop(false) // what it did is in no one's way
}

// guardMain is the guard's process.
func guardMain(args []string) error {
	if len(args) < 1 {
		return errors.New("guard of hooks: it is started by the agent only")
	}
	limit, err := time.ParseDuration(args[0])
	if err != nil {
		return fmt.Errorf("guard of hooks: %w", err)
	}
	if err := ready(); err != nil {
		return err
	}
	paths := args[1:]
	var called []hooks.Result
	for ctl := os.NewFile(ctlFD, "control"); ; {
		var m [2]byte
		if _, err := io.ReadFull(ctl, m[:]); err != nil {
			break
		}
		if int(m[1]) >= len(paths) {
			return errors.New("guard of hooks: no hook " + strconv.Itoa(int(m[1])))
		}
		path := paths[m[1]]
		called = slices.DeleteFunc(called, func(r hooks.Result) bool { return r.Path == path })
		if m[0] == 'f' {
			called = append(called, hooks.Result{Path: path})
		}
	}
	_, err = hooks.Set{Timeout: limit}.Thaw(context.Background(), called)
	return err
}
