package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/progress"
	"github.com/openmigrate/openmigrate/wire"
)

func newMachines(a *app) *cobra.Command {
	c := &cobra.Command{Use: "machines", Short: "Source servers and their replication", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(
		&cobra.Command{Use: "ls", Short: "List machines, their state, RPO and the next step", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return machinesLs(c.Context(), a) }},
		&cobra.Command{Use: "show M", Short: "Show one machine: state, RPO, how its disks are followed, events", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return machinesShow(c.Context(), a, args[0]) }},
		&cobra.Command{Use: "disks M", Short: "List a machine's disks as its agent sees them", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return machinesDisks(c.Context(), a, args[0]) }},
		machineAction(a, "pause M", "Stop a machine's cycles; its restpoints stay", "paused", (*apiclient.Client).PauseMachine),
		machineAction(a, "resume M", "Let a machine's cycles go on", "resumed", (*apiclient.Client).ResumeMachine),
		machineAction(a, "rm M", "Remove a machine with all its restpoints, and shut its agent out", "removed", (*apiclient.Client).RemoveMachine),
		machineAction(a, "revoke M", "Shut a machine's agent out at once; its restpoints stay", "revoked", (*apiclient.Client).RevokeMachine),
		machineAction(a, "unfreeze M", "Let an identity work again that was seen on two hosts", "unfrozen", (*apiclient.Client).UnfreezeMachine),
		newSync(a), newPolicy(a),
	)
	return c
}

// machineAction is a command that does one thing to one machine.
func machineAction(a *app, use, short, done string, do func(c *apiclient.Client, ctx context.Context, ref string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		m, err := a.master()
		if err != nil {
			return err
		}
		if err := do(m, c.Context(), args[0]); err != nil {
			return err
		}
		return a.out.Print(os.Stdout, map[string]string{"machine": args[0], "result": done}, func(w io.Writer) { cli.Row(w, args[0]+" "+done) })
	}}
}

func machinesLs(ctx context.Context, a *app) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	list, err := retry(ctx, func() ([]wire.MachineInfo, error) { return m.Machines(ctx) })
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, list, func(w io.Writer) {
		cli.Row(w, "NAME", "STATE", "LIFE", "RPO", "RESTPOINTS", "LAST RESTPOINT", "PROGRESS", "NEXT STEP")
		for i := range list {
			x := &list[i]
			cli.Row(w, x.Name, x.Replication, x.Life, rpoNow(&x.RPO), x.Restpoints, age(x.LastTime), percent(x.Progress), nextStep(x))
		}
	})
}

// nextStep is what to do about replication first, and then on the way to the target.
func nextStep(x *wire.MachineInfo) string {
	if x.NextStep == "none" && x.LifeStep != "" {
		return x.LifeStep
	}
	return x.NextStep
}

// age says how long ago a moment was.
func age(t *time.Time) string {
	if t == nil {
		return "never"
	}
	d := time.Since(*t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d d ago", int(d.Hours()/24))
}

func percent(p *wire.Progress) string {
	if p == nil || p.Total == 0 {
		return "-"
	}
	return fmt.Sprintf("%d %%", 100*p.Done/p.Total)
}

func machinesDisks(ctx context.Context, a *app, ref string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	x, err := retry(ctx, func() (wire.MachineInfo, error) { return m.Machine(ctx, ref) })
	if err != nil {
		return err
	}
	disks := []wire.BlockDevice{}
	if x.Inventory != nil {
		disks = append(disks, x.Inventory.Devices...)
	}
	return a.out.Print(os.Stdout, disks, func(w io.Writer) {
		cli.Row(w, "DISK", "TYPE", "ID", "SIZE", "REPLICATED")
		for _, d := range disks {
			cli.Row(w, d.Path, d.Type, d.ID, progress.Bytes(d.Size), d.Selected)
		}
	})
}

type syncOptions struct {
	wait    bool
	timeout time.Duration
}

func newSync(a *app) *cobra.Command {
	o := &syncOptions{}
	c := &cobra.Command{Use: "sync M", Short: "Make a restpoint now", Args: cobra.ExactArgs(1),
		Long: "Asks the machine's agent for a restpoint now. With --wait it shows progress, waits, and prints the restpoint.",
		RunE: func(c *cobra.Command, args []string) error { return runSync(c.Context(), a, o, args[0]) }}
	c.Flags().BoolVar(&o.wait, "wait", false, "wait until the restpoint is listed, and print it")
	c.Flags().DurationVar(&o.timeout, "timeout", 0, "with --wait: give up after this time (the agent goes on)")
	return c
}

func runSync(ctx context.Context, a *app, o *syncOptions, ref string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	s, err := m.Sync(ctx, ref)
	if err != nil {
		return err
	}
	if !o.wait {
		return a.out.Print(os.Stdout, &s, func(w io.Writer) { cli.Row(w, "asked for a restpoint of "+ref+"; see 'machines show'") })
	}
	if err := waitSync(ctx, m, ref, &s); err != nil {
		return err
	}
	return a.printRestpoint(ctx, m, s.Restpoint)
}

// waitSync follows a wish for a restpoint until it is fulfilled.
func waitSync(ctx context.Context, m *apiclient.Client, ref string, s *wire.SyncInfo) error {
	meter := progress.New(os.Stderr, ref)
	for wait := 50 * time.Millisecond; ; wait = min(wait*2, 500*time.Millisecond) {
		now, err := retry(ctx, func() (wire.SyncInfo, error) { return m.SyncStatus(ctx, ref, s.ID) })
		if err != nil {
			meter.Finish("")
			return err
		}
		*s = now
		switch {
		case s.Restpoint != "":
			meter.Finish("")
			return nil
		case !s.Open:
			meter.Finish("")
			return fmt.Errorf("sync %s of %s is gone: it was replaced or is too old; see 'restpoints ls %s'", s.ID, ref, ref)
		case s.Failure != nil:
			meter.Finish("")
			return fmt.Errorf("no restpoint of %s: %s; the agent tries again", ref, s.Failure.Message)
		}
		if p := s.Progress; p != nil {
			meter.Set(progress.State{Phase: p.Phase, Total: p.Total, Done: p.Done, Note: "saved " + progress.Bytes(p.Zero+p.Same+p.Known)})
		}
		select {
		case <-ctx.Done():
			meter.Finish("")
			return fmt.Errorf("waiting for a restpoint of %s: %w (its agent says: %s %s)", ref, ctx.Err(), s.State, cli.Clean(s.Message))
		case <-time.After(wait):
		}
	}
}

type policyOptions struct {
	interval  time.Duration
	bandwidth int64
	chunkSize int
	disks     []string
	window    string
}

func newPolicy(a *app) *cobra.Command {
	o := &policyOptions{}
	c := &cobra.Command{Use: "set M", Short: "Change how a machine is replicated", Args: cobra.ExactArgs(1),
		Example: "  openmigrate machines set web1 --interval 5m --bandwidth 20000000 --window 22:00-06:00"}
	f := c.Flags()
	f.DurationVar(&o.interval, "interval", 0, "from start to start of cycles, at least 1s; negative: only when asked")
	f.Int64Var(&o.bandwidth, "bandwidth", 0, "bytes per second; 0: no limit")
	f.IntVar(&o.chunkSize, "chunk-size", 0, "bytes, a power of two from 65536 to 4194304; 0: by disk size")
	f.StringSliceVar(&o.disks, "disk", nil, "ids or paths of the disks to replicate; again for each")
	f.StringVar(&o.window, "window", "", "daily time in UTC in which data may be sent, e.g. 22:00-06:00; 'always' for no limit")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, err := o.policy(f.Changed)
		if err != nil {
			return err
		}
		m, err := a.master()
		if err != nil {
			return err
		}
		x, err := m.SetPolicy(c.Context(), args[0], *p)
		if err != nil {
			return err
		}
		return a.out.Print(os.Stdout, x.Policy, func(w io.Writer) { cli.Row(w, "changed "+x.Name) })
	}
	return c
}

// policy takes only the flags that were given.
func (o *policyOptions) policy(given func(string) bool) (*wire.MachinePolicy, error) {
	p := &wire.MachinePolicy{}
	if given("interval") {
		d := wire.Duration(o.interval)
		p.Interval = &d
	}
	if given("bandwidth") {
		p.Bandwidth = &o.bandwidth
	}
	if given("chunk-size") {
		p.ChunkSize = &o.chunkSize
	}
	if given("disk") {
		p.Disks = o.disks
	}
	if given("window") {
		p.Window = &wire.Window{}
		if o.window != "always" {
			var from, to string
			if n, err := fmt.Sscanf(o.window, "%5s-%5s", &from, &to); err != nil || n != 2 {
				return nil, cli.Usagef("--window %q: want HH:MM-HH:MM, or always", o.window)
			}
			p.Window.From, p.Window.To = from, to
		}
	}
	return p, nil
}
