package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/progress"
	"github.com/openmigrate/openmigrate/wire"
)

// waitOptions are the flags of what can be waited for.
type waitOptions struct {
	wait    bool
	timeout time.Duration
}

func (o *waitOptions) flags(c *cobra.Command, until string) {
	c.Flags().BoolVar(&o.wait, "wait", false, "show progress and wait "+until+"; fail if it fails")
	c.Flags().DurationVar(&o.timeout, "timeout", 0, "with --wait: give up waiting after this time (the launch goes on)")
}

// settle waits, if that was asked for, until a launch is in the state wanted, and prints it either way.
func (a *app) settle(ctx context.Context, m *apiclient.Client, l *wire.LaunchInfo, o *waitOptions, wanted string) error {
	var failed error
	if o.wait {
		if o.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.timeout)
			defer cancel()
		}
		if failed = followLaunch(ctx, m, l, wanted); ctx.Err() != nil {
			return failed
		}
	}
	if failed != nil && a.out.Format != "json" {
		return failed // it says all
	}
	if err := a.printLaunch(l); err != nil {
		return err
	}
	return failed
}

// deadEnds are the states from which the one that is waited for is never reached. What failed and was kept can still be reverted.
var deadEnds = map[string][]string{
	wire.LaunchRunning:   {wire.LaunchFailed, wire.LaunchReverted, wire.LaunchFinalized},
	wire.LaunchReverted:  {wire.LaunchFinalized},
	wire.LaunchFinalized: {wire.LaunchFailed, wire.LaunchReverted},
}

// followLaunch shows a launch's steps and log until it is in the state wanted, or can never be, which is an error.
func followLaunch(ctx context.Context, m *apiclient.Client, l *wire.LaunchInfo, wanted string) error {
	show := progress.NewSteps(os.Stderr, cli.Clean(l.MachineName))
	defer show.Finish()
	log := logTail{}
	for pause := 100 * time.Millisecond; ; pause = min(pause*2, time.Second) {
		for _, line := range log.news(l.Log) {
			show.Log(cli.Clean(line.Message))
		}
		switch {
		case l.State == wanted:
			return nil
		case slices.Contains(deadEnds[wanted], l.State):
			return launchFailure(l)
		}
		show.Set(stepOf(l, time.Now()))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		now, err := retry(ctx, func() (wire.LaunchInfo, error) { return m.Launch(ctx, l.ID) })
		if ctx.Err() != nil {
			return fmt.Errorf("stopped waiting for launch %s, which goes on: openmigrate launch show %s: %w", l.ID, l.ID, ctx.Err())
		}
		if err != nil {
			return fmt.Errorf("follow launch %s: %w", l.ID, err)
		}
		*l = now
	}
}

// stepOf is where a launch is now.
func stepOf(l *wire.LaunchInfo, now time.Time) progress.Step {
	at := progress.Step{Name: l.State, Elapsed: elapsed(l, now), Forecast: time.Duration(l.Forecast)}
	if l.Source != "" {
		at.Note = "source " + cli.Clean(l.Source)
	}
	if n := len(l.Steps); n > 0 && l.Steps[n-1].Ended.IsZero() {
		s := &l.Steps[n-1]
		if s.Progress != nil {
			at.Total, at.Done = s.Progress.Total, s.Progress.Done
		}
		if s.Message != "" {
			at.Note = cli.Clean(s.Message)
		}
	}
	return at
}

// logTail remembers which line of a launch's log was the last that was shown; the log forgets its oldest.
type logTail struct{ last *wire.LaunchLine }

// news returns the lines that came since the last call.
func (t *logTail) news(log []wire.LaunchLine) []wire.LaunchLine {
	if t.last != nil {
		for i := range slices.Backward(log) {
			if log[i].Message == t.last.Message && log[i].Time.Equal(t.last.Time) {
				log = log[i+1:]
				break
			}
		}
	}
	if len(log) > 0 {
		t.last = &wire.LaunchLine{Time: log[len(log)-1].Time, Message: log[len(log)-1].Message}
	}
	return log
}
