package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/progress"
	"github.com/openmigrate/openmigrate/wire"
)

func machinesShow(ctx context.Context, a *app, ref string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	x, err := retry(ctx, func() (wire.MachineInfo, error) { return m.Machine(ctx, ref) })
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, &x, func(w io.Writer) { printMachine(w, &x, time.Now()) })
}

// printMachine writes what an operator should know of a machine, the state and what to do about it first.
func printMachine(w io.Writer, x *wire.MachineInfo, now time.Time) {
	row := func(name, format string, args ...any) { cli.Row(w, name, fmt.Sprintf(format, args...)) }
	row("name", "%s", x.Name)
	row("id", "%s", x.ID)
	row("state", "%s", x.Replication)
	if x.Reason != "" {
		row("reason", "%s", x.Reason)
	}
	row("next step", "%s", x.NextStep)
	row("life", "%s", x.Life)
	row("life step", "%s", x.LifeStep)
	row("rpo", "%s", rpoLine(&x.RPO))
	row("lag", "%s", short(x.RPO.Lag))
	row("backlog", "%s, changing by %s a second", progress.Bytes(x.RPO.Backlog), progress.Bytes(x.RPO.ChangeRate))
	row("throughput", "%s a second into staging", progress.Bytes(x.RPO.Throughput))
	if x.RPO.ETA != nil {
		row("eta", "%s (in %s)", x.RPO.ETA.Format(time.RFC3339), short(wire.Duration(max(0, x.RPO.ETA.Sub(now)))))
	}
	row("restpoints", "%d", x.Restpoints)
	row("last restpoint", "%s %s", x.LastRestpoint, age(x.LastTime))
	row("last seen", "%s", age(&x.LastSeen))
	row("agent", "%s", x.AgentVersion)
	if x.Frozen != "" {
		row("frozen", "%s", x.Frozen)
	}
	if x.Warm != nil {
		printStanding(w, x.Warm)
	}
	if x.Progress != nil {
		row("progress", "%s, %s", percent(x.Progress), moved(x.Progress))
	}
	if x.Report != nil {
		printReport(w, x.Report)
	}
	for _, e := range x.Events {
		row(e.Time.Format(time.RFC3339), "%s %s: %s", e.Level, e.Code, e.Message)
	}
}

// printReport writes what the agent says: by which means each disk is replicated, why not by better ones, and how the last cycle went.
func printReport(w io.Writer, r *wire.Report) {
	cli.Row(w, "agent says", r.State+" "+r.Message)
	for _, d := range r.Disks {
		cli.Row(w, "disk "+d.Name, fmt.Sprintf("tracker %s, consistency %s", d.Tracker, d.Consistency))
		if d.TrackerWhy != "" {
			cli.Row(w, "", "no better tracker: "+d.TrackerWhy)
		}
		if d.ConsistencyWhy != "" {
			cli.Row(w, "", "no stronger consistency: "+d.ConsistencyWhy)
		}
	}
	c := r.Cycle
	if c == nil {
		return
	}
	waited := ""
	if c.Frozen > 0 {
		waited = fmt.Sprintf("writers kept waiting for %s, ", short(c.Frozen))
	}
	cli.Row(w, "last cycle", fmt.Sprintf("%s, passes over the disks: %d, %s%s were written since the restpoint before",
		short(c.Duration), c.Passes, waited, progress.Bytes(c.Backlog)))
	for _, why := range c.Why {
		cli.Row(w, "", why)
	}
}

// rpoNow is the RPO for a column.
func rpoNow(r *wire.RPOInfo) string {
	if r.Instant == nil {
		return "-"
	}
	return short(r.Now)
}

func rpoLine(r *wire.RPOInfo) string {
	if r.Instant == nil {
		return "- (there is no restpoint)"
	}
	s := short(r.Now)
	if r.Predicted > r.Now {
		s += ", grows to " + short(r.Predicted) + " before the next restpoint"
	}
	if r.Target > 0 {
		s += ", lags above " + short(r.Target)
	}
	return s
}

// short shows a duration with as much precision as people need.
func short(w wire.Duration) string {
	d := time.Duration(w)
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// moved says what needed not be sent so far.
func moved(p *wire.Progress) string {
	return fmt.Sprintf("zero %s, unchanged %s, in staging already %s, sent %s as %s", progress.Bytes(p.Zero), progress.Bytes(p.Same),
		progress.Bytes(p.Known), progress.Bytes(p.Sent), progress.Bytes(p.Stored))
}
