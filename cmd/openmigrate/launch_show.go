package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/wire"
)

func newLaunchShow(a *app) *cobra.Command {
	return &cobra.Command{Use: "show L", Short: "Show one launch: steps and how long they took, checks, addresses, why it failed", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return launchShow(c.Context(), a, args[0]) }}
}

func launchShow(ctx context.Context, a *app, id string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	l, err := retry(ctx, func() (wire.LaunchInfo, error) { return m.Launch(ctx, id) })
	if err != nil {
		return err
	}
	return a.printLaunch(&l)
}

func (a *app) printLaunch(l *wire.LaunchInfo) error {
	return a.out.Print(os.Stdout, l, func(w io.Writer) { writeLaunch(w, l, time.Now()) })
}

// writeLaunch writes what an operator should know of a launch, the state and what to do about it first.
func writeLaunch(w io.Writer, l *wire.LaunchInfo, now time.Time) {
	row := func(name, format string, args ...any) { cli.Row(w, name, fmt.Sprintf(format, args...)) }
	row("id", "%s", l.ID)
	row("machine", "%s", l.MachineName)
	row("kind", "%s", l.Kind)
	row("state", "%s", l.State)
	row("next step", "%s", l.NextStep)
	if l.Restpoint != "" {
		row("restpoint", "%s", l.Restpoint)
	}
	row("provider", "%s", where(l))
	if l.Source != "" {
		row("source", "%s", l.Source)
	}
	row("started", "%s (%s)", l.Created.Format(time.RFC3339), age(&l.Created))
	row("took", "%s", tookLine(l, now))
	if !l.Deadline.IsZero() {
		row("deadline", "%s: then it is reverted", l.Deadline.Format(time.RFC3339))
	}
	for _, e := range l.Endpoints {
		row("reached at", "port %d: %s", e.Port, e.Address)
	}
	for i := range l.Steps {
		row("step "+l.Steps[i].Name, "%s", stepLine(&l.Steps[i], now))
	}
	for i := range l.Checks {
		row("check "+checkName(&l.Checks[i].LaunchCheck), "%s", outcome(&l.Checks[i]))
	}
	if l.Screenshot {
		row("screenshot", "openmigrate launch screenshot %s --to FILE", l.ID)
	}
	for _, line := range l.Log {
		row(line.Time.Format(time.RFC3339), "%s", line.Message)
	}
	if f := l.Failure; f != nil {
		row("failed in", "%s", f.Step)
		row("reason", "%s", f.Reason)
		if f.Cause != "" {
			row("likely cause", "%s", f.Cause)
		}
		for _, line := range consoleLines(f.Console) {
			row("console", "%s", line)
		}
	}
}

func where(l *wire.LaunchInfo) string {
	parts := []string{l.Provider}
	if l.Instance != "" {
		parts = append(parts, "instance "+l.Instance)
	}
	if len(l.Volumes) > 0 {
		parts = append(parts, "volumes "+strings.Join(l.Volumes, " "))
	}
	return strings.Join(parts, ", ")
}

func tookLine(l *wire.LaunchInfo, now time.Time) string {
	s := short(wire.Duration(elapsed(l, now)))
	if l.Took == 0 && l.Ended.IsZero() {
		s += " so far"
	}
	if l.Forecast > 0 {
		s += ", forecast by the last one " + short(l.Forecast)
	}
	return s
}

func stepLine(s *wire.LaunchStep, now time.Time) string {
	end, line := s.Ended, ""
	if end.IsZero() {
		end, line = now, " so far"
	}
	line = short(wire.Duration(max(0, end.Sub(s.Started)))) + line
	if s.Progress != nil && s.Progress.Total > 0 {
		line += ", " + percent(s.Progress)
	}
	if s.Message != "" {
		line += ", " + s.Message
	}
	return line
}

func checkName(k *wire.LaunchCheck) string {
	s := k.Kind
	if k.Port != 0 {
		s += fmt.Sprintf(":%d", k.Port)
	}
	if k.Text != "" && k.Kind == wire.CheckConsole {
		s += ":" + k.Text
	}
	return s + k.Path
}

func outcome(o *wire.LaunchOutcome) string {
	s := "not passed"
	if o.Passed {
		s = "passed after " + short(o.After)
	}
	if o.Message != "" {
		s += ": " + o.Message
	}
	return s
}

// consoleLines is what a console said, fit for a terminal, without empty lines.
func consoleLines(console string) (lines []string) {
	for line := range strings.SplitSeq(cli.CleanText([]byte(console)), "\n") {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// launchFailure is the error of a launch that did not come about: what is known of why, and the console's last lines.
func launchFailure(l *wire.LaunchInfo) error {
	f := l.Failure
	if f == nil {
		return fmt.Errorf("launch %s of %s is %s", l.ID, cli.Clean(l.MachineName), l.State)
	}
	s := fmt.Sprintf("launch %s of %s failed in step %s: %s", l.ID, cli.Clean(l.MachineName), f.Step, cli.Clean(f.Reason))
	if f.Cause != "" {
		s += "\nlikely cause: " + cli.Clean(f.Cause)
	}
	if lines := consoleLines(f.Console); len(lines) > 0 {
		s += "\nthe console's last lines:\n  " + strings.Join(lines[max(0, len(lines)-20):], "\n  ")
	}
	return fmt.Errorf("%s", s)
}
