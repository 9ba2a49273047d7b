package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/wire"
)

func newLaunch(a *app) *cobra.Command {
	c := &cobra.Command{Use: "launch", Short: "Bring machines up at a provider: tests, cutovers, and the way back", Args: cobra.NoArgs,
		Long: `Bring machines up at a provider from their restpoints.

A test runs on an isolated network and leaves the source alone; it is taken away again at its deadline, or with 'launch revert'.
A cutover moves the machine: the source stops, its last writes are carried over, and the copy takes its place. 'launch revert'
undoes it, until 'launch finalize'. M is a machine's name or id, L a launch's id.`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(newLaunchTest(a), newLaunchCutover(a), newLaunchLs(a), newLaunchShow(a), newLaunchRevert(a), newLaunchFinalize(a),
		newLaunchConsole(a), newLaunchScreenshot(a), newLaunchTemplate(a), newLaunchWarm(a))
	return c
}

func newLaunchLs(a *app) *cobra.Command {
	var machine string
	c := &cobra.Command{Use: "ls", Short: "List launches, newest first, their state and the next step", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return launchLs(c.Context(), a, machine) }}
	c.Flags().StringVar(&machine, "machine", "", "only those of this machine")
	return c
}

func launchLs(ctx context.Context, a *app, machine string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	list, err := retry(ctx, func() ([]wire.LaunchInfo, error) { return m.Launches(ctx, machine) })
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, list, func(w io.Writer) {
		cli.Row(w, "ID", "MACHINE", "KIND", "STATE", "STARTED", "TOOK", "NEXT STEP")
		for i := range list {
			l := &list[i]
			cli.Row(w, l.ID, l.MachineName, l.Kind, l.State, age(&l.Created), took(l), l.NextStep)
		}
	})
}

// took is how long a launch needed until it ran.
func took(l *wire.LaunchInfo) string {
	if l.Took == 0 {
		return "-"
	}
	return short(l.Took)
}

// elapsed is how long a launch has been on its way, or was.
func elapsed(l *wire.LaunchInfo, now time.Time) time.Duration {
	if l.Took > 0 {
		return time.Duration(l.Took)
	}
	if !l.Ended.IsZero() {
		now = l.Ended
	}
	return max(0, now.Sub(l.Created))
}
