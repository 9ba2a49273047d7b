package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/agent/quiesce/hooks"
	"github.com/openmigrate/openmigrate/wire"
)

// holdFile says how far a hold is, so that whoever starts after a kill knows what is stopped.
const holdFile = "hold.json"

// cutoverDir holds the scripts that stop services for a cutover and start them again; cutoverLimit is for each call.
const (
	cutoverDir   = "/etc/openmigrate/cutover.d"
	cutoverLimit = 120 * time.Second
)

// holdRecord is the content of holdFile. There is none when nothing is held. Phase goes
//
//	stopping → syncing ⇄ freezing → released          (the master heard that, or will)
//	    └─────────┴──────────┴──────► failed, lost    (and stays until the master lets go)
//
// Nothing is written while file systems are frozen: freezing stands for all that may have happened since.
type holdRecord struct {
	ID      string   `json:"id"`
	Phase   string   `json:"phase"`
	Message string   `json:"message,omitempty"`
	Stopped []string `json:"stopped,omitempty"` // hooks of which stop was called and start was not
	Base    string   `json:"base,omitempty"`    // restpoint that the base is of as long as the hold's own is not kept
	Boot    string   `json:"boot"`              // boot id of when it began
}

// phaseFreezing stands beside the states of wire.HoldReport.
const phaseFreezing = "freezing"

// over reports whether nothing is done for it any more.
func (r *holdRecord) over() bool {
	return r.Phase == wire.HoldReleased || r.Phase == wire.HoldLost || r.Phase == wire.HoldFailed
}

func (r *holdRecord) report() *wire.HoldReport {
	return &wire.HoldReport{ID: r.ID, State: r.Phase, Message: r.Message}
}

// keepHold makes r durable; nil: there is none any more.
func (a *agent) keepHold(r *holdRecord) error {
	a.held = r
	if r == nil {
		if err := os.Remove(a.dir.Path(holdFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget the hold: %w", err)
		}
		return nil
	}
	return a.dir.Write(holdFile, r)
}

func (a *agent) phase(r *holdRecord, phase, message string) error {
	r.Phase, r.Message = phase, message
	return a.keepHold(r)
}

// recoverHold takes up what an earlier process left, before the master is asked: services must not stay stopped because that is away.
func (a *agent) recoverHold(ctx context.Context) error {
	r := new(holdRecord)
	ok, err := a.dir.Read(holdFile, r)
	if err != nil || !ok {
		return err
	}
	a.held = r
	switch again := r.Boot != bootID(); {
	case r.over():
		return nil
	case r.Phase == phaseFreezing && again:
		return a.phase(r, wire.HoldLost, "the source was started again after its file systems had been frozen")
	case r.Phase == phaseFreezing:
		return a.phase(r, wire.HoldLost, "the agent ended while file systems were frozen, and they were thawed")
	default:
		message := "the agent ended before file systems were frozen"
		if err := a.startServices(ctx, r); err != nil {
			message += "; " + err.Error()
		}
		return a.phase(r, wire.HoldFailed, message)
	}
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // none: every start is on the same boot
	return strings.TrimSpace(string(b))
}

// hooks are those of a cutover. note says that there are none.
func (a *agent) cutoverHooks() (set hooks.Set, paths []string, note string, err error) {
	set = hooks.Set{Dir: a.opts.CutoverHooks, Timeout: cutoverLimit}
	if _, err := os.Stat(set.Dir); errors.Is(err, fs.ErrNotExist) {
		return set, nil, fmt.Sprintf("no services were stopped: there is no %s", set.Dir), nil
	}
	if paths, err = set.List(); err == nil && len(paths) == 0 {
		note = fmt.Sprintf("no services were stopped: there is no executable in %s", set.Dir)
	}
	return set, paths, note, err
}

// stopServices calls the hooks with stop, in order, until one fails. r knows of each before it is called.
func (a *agent) stopServices(ctx context.Context, r *holdRecord) (note string, err error) {
	set, paths, note, err := a.cutoverHooks()
	if err != nil {
		return "", err
	}
	for _, p := range paths {
		r.Stopped = append(r.Stopped, p)
		if err := a.keepHold(r); err != nil {
			return "", err
		}
		res := set.Call(ctx, p, "stop")
		a.log.Info("services stopped", "hook", p, "seconds", res.Took.Seconds(), "output", res.Output, "error", res.Err)
		if res.Err != nil {
			return "", said(res)
		}
	}
	return note, nil
}

// startServices calls the hooks of which stop was called with start, in reverse, all of them.
func (a *agent) startServices(ctx context.Context, r *holdRecord) error {
	ctx = context.WithoutCancel(ctx)
	set, paths, _, err := a.cutoverHooks()
	errs := []error{err}
	for n := len(r.Stopped); n > 0; n = len(r.Stopped) {
		p := r.Stopped[n-1]
		if !slices.Contains(paths, p) { // what is called is what may be called now, whatever the file says
			errs = append(errs, fmt.Errorf("hook %s start: it is not there any more; start by hand what it stopped", p))
		} else {
			res := set.Call(ctx, p, "start")
			a.log.Info("services started", "hook", p, "seconds", res.Took.Seconds(), "output", res.Output, "error", res.Err)
			if res.Err != nil {
				errs = append(errs, said(res))
			}
		}
		r.Stopped = r.Stopped[:n-1]
		errs = append(errs, a.keepHold(r))
	}
	return errors.Join(errs...)
}

// said adds the hook's last words to its error.
func said(r hooks.Result) error {
	if out := strings.TrimSpace(r.Output); out != "" {
		return fmt.Errorf("%w: %s", r.Err, out)
	}
	return r.Err
}
