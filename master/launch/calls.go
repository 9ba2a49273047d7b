package launch

import (
	"context"
	"crypto/subtle"
	"time"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// Revert asks for a launch to be undone: its machine goes, its volumes go, its source goes on. It may be asked for again. A machine that was finalized is
// left alone: CodeConflict.
func (s *Service) Revert(ctx context.Context, id, by string) (wire.LaunchInfo, error) {
	return s.wish(ctx, id, func(l *row) error {
		switch {
		case l.State == wire.LaunchReverted || l.Revert != "":
			return nil
		case l.State == wire.LaunchFinalized:
			return wire.NewProblem(409, wire.CodeConflict, "launch %s is finalized: its machine is yours", id).
				WithNext("remove it at the provider, or bring up a restpoint: openmigrate launch cutover " + l.MachineName + " --restpoint R")
		case l.State == wire.LaunchFailed && !l.Kept:
			return wire.NewProblem(409, wire.CodeConflict, "launch %s failed, and nothing of it is left", id).WithNext("openmigrate launch show " + id)
		}
		l.Revert = clean(by, wire.MaxNameLength)
		if l.Revert == "" {
			l.Revert = "somebody"
		}
		if l.State == wire.LaunchFailed {
			l.begin(wire.LaunchReverting, s.Clock.Now())
			l.Ended = time.Time{}
			l.say(s.Clock.Now(), "reverted by %s", l.Revert)
		}
		return nil
	})
}

// Finalize says that the machine stays where it is: there is no way back, and nothing here touches it any more. CodeConflict unless it is a cutover that runs.
func (s *Service) Finalize(ctx context.Context, id, by string) (wire.LaunchInfo, error) {
	return s.wish(ctx, id, func(l *row) error {
		switch {
		case l.State == wire.LaunchFinalized || l.Finalize != "":
			return nil
		case l.Kind != wire.LaunchCutover:
			return wire.NewProblem(409, wire.CodeConflict, "launch %s is a test", id).WithNext("a test is reverted: openmigrate launch revert " + id)
		case l.Revert != "" || l.State != wire.LaunchRunning:
			return wire.NewProblem(409, wire.CodeConflict, "launch %s is %s; only a cutover that runs can be finalized", id, l.State).WithNext("openmigrate launch show " + id)
		}
		l.Finalize = clean(by, wire.MaxNameLength)
		if l.Finalize == "" {
			l.Finalize = "somebody"
		}
		l.say(s.Clock.Now(), "finalized by %s", l.Finalize)
		return nil
	})
}

func (s *Service) wish(ctx context.Context, id string, fn func(*row) error) (wire.LaunchInfo, error) {
	l, err := s.change(ctx, id, func(w store.Writer, l *row) error {
		if err := fn(l); err != nil {
			return err
		}
		return remember(w, l)
	})
	if err != nil {
		return wire.LaunchInfo{}, err
	}
	s.wake(id)
	return s.info(ctx, &l), nil
}

// CallHome takes what the agent in a copy says. The secret is that of its launch, and good for nothing else.
func (s *Service) CallHome(ctx context.Context, c wire.CallHome) error {
	denied := wire.NewProblem(401, wire.CodeUnauthorized, "no launch of that id and secret is under way").WithNext("the copy may go on; nobody waits for its call")
	if len(c.Launch) > wire.MaxNameLength || len(c.Secret) > wire.MaxNameLength {
		return denied
	}
	_, err := s.change(ctx, c.Launch, func(_ store.Writer, l *row) error {
		if l.over() || l.Secret == "" || subtle.ConstantTimeCompare([]byte(l.Secret), []byte(c.Secret)) != 1 {
			return denied
		}
		if l.CallHome != nil {
			return nil
		}
		l.CallHome = &wire.CallHome{Launch: l.ID, Hostname: clean(c.Hostname, 64), BootID: clean(c.BootID, 64)}
		l.say(s.Clock.Now(), "the copy calls home: host %s", l.CallHome.Hostname)
		return nil
	})
	if wire.HasCode(err, wire.CodeNotFound) {
		return denied // launches cannot be looked for by calling
	}
	if err == nil {
		s.wake(c.Launch)
	}
	return err
}
