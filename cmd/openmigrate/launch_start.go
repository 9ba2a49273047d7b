package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/wire"
)

// launchOptions are the flags of `launch test` and `launch cutover`.
type launchOptions struct {
	restpoint  string
	keep       bool
	stopSource bool
	hold       time.Duration
	template   templateOptions
	waitOptions
}

func (o *launchOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.restpoint, "restpoint", "", "start from this restpoint instead of the newest: its id, or M/latest")
	c.Flags().BoolVar(&o.keep, "keep", false, "when it fails, leave what was made for somebody to look at, until 'launch revert'")
	o.template.flags(c)
	o.waitOptions.flags(c, "until the machine runs and its checks passed")
}

func newLaunchTest(a *app) *cobra.Command {
	o := &launchOptions{}
	c := &cobra.Command{Use: "test M", Short: "Bring a copy up on an isolated network; the source is left alone", Args: cobra.ExactArgs(1),
		Long: `Bring a copy of machine M up on an isolated network. The source is left alone, and replication goes on.

What the copy is like comes from the machine's launch template ('launch template M'); flags and -f change it for this launch.
It is taken away at its deadline (a day after it runs, unless --deadline says otherwise), or by 'launch revert L'.`,
		Example: `  openmigrate launch test web1 --wait
  openmigrate launch test db1 --instant --check tcp:5432 --check console:'database system is ready' --wait
  openmigrate launch test db1 --restpoint R --deadline 2h`,
		RunE: func(c *cobra.Command, args []string) error {
			return runLaunch(c, a, o, wire.LaunchTest, args[0])
		}}
	o.flags(c)
	return c
}

func newLaunchCutover(a *app) *cobra.Command {
	o := &launchOptions{}
	c := &cobra.Command{Use: "cutover M", Short: "Move a machine: the source stops, the copy takes its place", Args: cobra.ExactArgs(1),
		Long: `Move machine M to the provider: its hooks stop services, its file systems are frozen, the last writes become a restpoint, and
the copy starts from that. Nothing that the source had acknowledged is lost, and it takes no more writes. It stays frozen until

- 'launch revert L' takes the copy away, and the source thaws and starts its services again; or
- the copy does not come up: then the same happens by itself, at the latest after --hold-timeout; or
- with --stop-source, the copy serves: then the source powers itself off.

With --restpoint it is a rollback: the copy starts from that restpoint, nothing is synced, and the source is not asked.`,
		Example: `  openmigrate launch cutover web1 --stop-source --wait
  openmigrate launch cutover web1 --restpoint R --wait         (roll back to R)`,
		RunE: func(c *cobra.Command, args []string) error {
			return runLaunch(c, a, o, wire.LaunchCutover, args[0])
		}}
	o.flags(c)
	c.Flags().BoolVar(&o.stopSource, "stop-source", false, "power the source off once the copy serves")
	c.Flags().DurationVar(&o.hold, "hold-timeout", 0, "how long the source stays frozen for a copy that does not come up (default 30m)")
	return c
}

func runLaunch(c *cobra.Command, a *app, o *launchOptions, kind, machine string) error {
	ctx := c.Context()
	m, err := a.master()
	if err != nil {
		return err
	}
	q := wire.LaunchRequest{Kind: kind, Machine: machine, Restpoint: o.restpoint, Keep: o.keep, StopSource: o.stopSource, HoldTimeout: wire.Duration(o.hold)}
	if q.Template, err = o.forLaunch(ctx, c, m, machine); err != nil {
		return err
	}
	if kind == wire.LaunchCutover {
		fmt.Fprintln(os.Stderr, cutoverWords(&q))
	}
	l, err := m.StartLaunch(ctx, q)
	if err != nil {
		return err
	}
	return a.settle(ctx, m, &l, &o.waitOptions, wire.LaunchRunning)
}

// forLaunch is the template of this launch alone; nil when no flag changes the machine's own.
func (o *launchOptions) forLaunch(ctx context.Context, c *cobra.Command, m *apiclient.Client, machine string) (*wire.LaunchTemplate, error) {
	if !o.template.given(c) {
		return nil, nil
	}
	t, err := o.template.base(ctx, m, machine)
	if err != nil {
		return nil, err
	}
	return t, o.template.apply(c, t)
}

// cutoverWords say what a cutover does to the source.
func cutoverWords(q *wire.LaunchRequest) string {
	machine := cli.Clean(q.Machine)
	if q.Restpoint != "" {
		return fmt.Sprintf("%s is brought up as it was at restpoint %s: what was written later is not in it. The source is not touched: see that it does not serve at the same time.",
			machine, cli.Clean(q.Restpoint))
	}
	hold := q.HoldTimeout
	if hold == 0 {
		hold = wire.Duration(wire.DefaultHold)
	}
	s := fmt.Sprintf("%s stops serving: hooks stop its services, its file systems are frozen, and the last writes are carried over. ", machine)
	if q.StopSource {
		s += "Once the copy serves, the source powers itself off. "
	} else {
		s += "Once the copy serves, the source stays frozen. "
	}
	return s + fmt.Sprintf("If the copy does not come up, the source goes on serving, at the latest after %s. 'openmigrate launch revert' undoes it.", short(hold))
}
