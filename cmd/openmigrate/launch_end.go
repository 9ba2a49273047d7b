package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/wire"
)

// endOptions are the flags of `launch revert` and `launch finalize`.
type endOptions struct {
	yes bool
	waitOptions
}

func newLaunchRevert(a *app) *cobra.Command {
	o := &endOptions{}
	c := &cobra.Command{Use: "revert L", Short: "Take a launch back: the copy goes, and after a cutover the source serves again", Args: cobra.ExactArgs(1),
		Long: `Take launch L back. The copy is stopped and its volumes are deleted, with everything that was written to them. After a cutover the
source thaws and starts its services again, and replication goes on; one that was powered off (--stop-source) is yours to power on.`,
		RunE: func(c *cobra.Command, args []string) error {
			return endLaunch(c.Context(), a, o, args[0], revertWords, (*apiclient.Client).RevertLaunch, wire.LaunchReverted)
		}}
	o.flags(c, "until all of it is gone")
	return c
}

func newLaunchFinalize(a *app) *cobra.Command {
	o := &endOptions{}
	c := &cobra.Command{Use: "finalize L", Short: "Make a cutover final: there is no revert any more", Args: cobra.ExactArgs(1),
		Long: "Make cutover L final: the copy is the machine now, and cannot be reverted. The source's restpoints stay.",
		RunE: func(c *cobra.Command, args []string) error {
			return endLaunch(c.Context(), a, o, args[0], finalizeWords, (*apiclient.Client).FinalizeLaunch, wire.LaunchFinalized)
		}}
	o.flags(c, "until it is done")
	return c
}

func (o *endOptions) flags(c *cobra.Command, until string) {
	c.Flags().BoolVar(&o.yes, "yes", false, "do not ask on a terminal")
	o.waitOptions.flags(c, until)
}

// endLaunch says what will happen to a machine that serves and asks whoever sits at a terminal; scripts are never asked.
func endLaunch(ctx context.Context, a *app, o *endOptions, id string, words func(*wire.LaunchInfo) string,
	end func(*apiclient.Client, context.Context, string) (wire.LaunchInfo, error), wanted string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	l, err := retry(ctx, func() (wire.LaunchInfo, error) { return m.Launch(ctx, id) })
	if err != nil {
		return err
	}
	if text := words(&l); text != "" {
		fmt.Fprintln(os.Stderr, text)
		if err := confirm(o.yes); err != nil {
			return err
		}
	}
	if l, err = end(m, ctx, l.ID); err != nil {
		return err
	}
	return a.settle(ctx, m, &l, &o.waitOptions, wanted)
}

// live reports whether a launch is a cutover that serves.
func live(l *wire.LaunchInfo) bool {
	return l.Kind == wire.LaunchCutover && l.State == wire.LaunchRunning
}

func revertWords(l *wire.LaunchInfo) string {
	if !live(l) {
		return ""
	}
	s := fmt.Sprintf("%s serves at %s: the copy is stopped, and what was written to it since the cutover is deleted. ", cli.Clean(l.MachineName), cli.Clean(l.Provider))
	if l.Source == wire.HoldOff {
		return s + "The source is powered off: power it on."
	}
	return s + "The source thaws and starts its services again."
}

func finalizeWords(l *wire.LaunchInfo) string {
	if !live(l) {
		return ""
	}
	return fmt.Sprintf("%s stays at %s for good: this cutover cannot be reverted any more. See that the source never serves again.", cli.Clean(l.MachineName), cli.Clean(l.Provider))
}

// confirm asks on a terminal.
func confirm(yes bool) error {
	if yes || !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	fmt.Fprint(os.Stderr, "Go on? [y/N] ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return errors.New("nothing was done (--yes does it without asking)")
	}
	return nil
}
