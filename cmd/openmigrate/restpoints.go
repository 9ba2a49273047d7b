package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/apiclient"
	"github.com/openmigrate/openmigrate/hydrator"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/progress"
	"github.com/openmigrate/openmigrate/wire"
)

func newRestpoints(a *app) *cobra.Command {
	c := &cobra.Command{Use: "restpoints", Short: "Points in time of machines", Args: cobra.NoArgs,
		Long: "Points in time of machines. R is a restpoint's id, or M/latest for the newest of machine M.",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(
		&cobra.Command{Use: "ls M", Short: "List a machine's restpoints, newest first", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return restpointsLs(c.Context(), a, args[0]) }},
		&cobra.Command{Use: "show R", Short: "Show one restpoint: disks, consistency, what it moved", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				m, err := a.master()
				if err != nil {
					return err
				}
				return a.printRestpoint(c.Context(), m, args[0])
			}},
		&cobra.Command{Use: "diff R1 R2", Short: "Show what changed on each disk from R1 to R2", Args: cobra.ExactArgs(2),
			RunE: func(c *cobra.Command, args []string) error { return restpointsDiff(c.Context(), a, args[0], args[1]) }},
		restpointAction(a, "pin R", "Keep a restpoint from being removed", "pinned",
			func(c *apiclient.Client, ctx context.Context, ref string) error { return c.Pin(ctx, ref, true) }),
		restpointAction(a, "unpin R", "Let a restpoint be removed again", "unpinned",
			func(c *apiclient.Client, ctx context.Context, ref string) error { return c.Pin(ctx, ref, false) }),
		restpointAction(a, "rm R", "Remove a restpoint; every other one stays whole", "removed", (*apiclient.Client).RemoveRestpoint),
		newVerify(a), newExport(a), newMount(a), newFiles(a), newCp(a),
	)
	return c
}

// restpointAction is a command that does one thing to one restpoint.
func restpointAction(a *app, use, short, done string, do func(c *apiclient.Client, ctx context.Context, ref string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		m, err := a.master()
		if err != nil {
			return err
		}
		r, err := m.Restpoint(c.Context(), args[0])
		if err != nil {
			return err
		}
		if err := do(m, c.Context(), r.ID); err != nil {
			return err
		}
		return a.out.Print(os.Stdout, map[string]string{"restpoint": r.ID, "result": done}, func(w io.Writer) { cli.Row(w, r.ID+" "+done) })
	}}
}

func restpointsLs(ctx context.Context, a *app, machine string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	list, err := retry(ctx, func() ([]wire.RestpointInfo, error) { return m.Restpoints(ctx, machine) })
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, list, func(w io.Writer) {
		cli.Row(w, "ID", "TIME", "CONSISTENCY", "STATE", "DISKS", "SIZE", "SENT", "STORED", "VERIFIED", "PINNED")
		for i := range list {
			r := &list[i]
			cli.Row(w, r.ID, r.Listed.Format(time.RFC3339), r.Consistency, r.State, len(r.Disks), progress.Bytes(r.Size),
				progress.Bytes(r.Stats.Sent), progress.Bytes(r.Stats.Stored), age(r.Verified), r.Pinned)
		}
	})
}

func (a *app) printRestpoint(ctx context.Context, m *apiclient.Client, ref string) error {
	r, err := retry(ctx, func() (wire.RestpointInfo, error) { return m.Restpoint(ctx, ref) })
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, &r, func(w io.Writer) {
		cli.Row(w, "restpoint", r.ID)
		cli.Row(w, "time", r.Listed.Format(time.RFC3339))
		cli.Row(w, "consistency", r.Consistency)
		cli.Row(w, "state", r.State)
		cli.Row(w, "moved", moved(&r.Stats))
		for _, d := range r.Disks {
			cli.Row(w, fmt.Sprintf("disk %d", d.Number), fmt.Sprintf("%s, %s in chunks of %s, changed %s, root %s", d.Name,
				progress.Bytes(d.Size), progress.Bytes(int64(d.ChunkSize)), progress.Bytes(d.Changed), d.Root))
		}
	})
}

func restpointsDiff(ctx context.Context, a *app, from, to string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	list, err := m.Diff(ctx, from, to)
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, list, func(w io.Writer) {
		cli.Row(w, "DISK", "CHANGE", "SIZE", "CHUNKS CHANGED", "BYTES CHANGED")
		for _, d := range list {
			cli.Row(w, d.Name, d.Change, progress.Bytes(d.Size), d.Chunks, progress.Bytes(d.Changed))
		}
	})
}

func newVerify(a *app) *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: "verify R", Short: "Have a node read a whole restpoint and check every chunk", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runVerify(c.Context(), a, args[0], wait) }}
	c.Flags().BoolVar(&wait, "wait", false, "wait for the result, and fail if it is bad")
	return c
}

func runVerify(ctx context.Context, a *app, ref string, wait bool) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	r, err := m.Restpoint(ctx, ref)
	if err != nil {
		return err
	}
	job, err := m.CreateJob(ctx, wire.JobRequest{Kind: wire.JobVerify, Restpoint: r.ID})
	if err != nil {
		return err
	}
	if wait {
		if job, err = waitJob(ctx, m, job.ID, "verify"); err != nil {
			return err
		}
	}
	if err := a.out.Print(os.Stdout, &job, func(w io.Writer) {
		if job.Result == nil {
			cli.Row(w, "job "+job.ID+" "+job.State)
			return
		}
		cli.Row(w, fmt.Sprintf("%s is whole: %d chunks, %s, each equal to its id", r.ID, job.Result.Chunks, progress.Bytes(job.Result.Bytes)))
	}); err != nil {
		return err
	}
	return nil
}

// waitJob follows a job to its end. One that failed is an error.
func waitJob(ctx context.Context, m *apiclient.Client, id, title string) (wire.JobInfo, error) {
	meter := progress.New(os.Stderr, title)
	defer meter.Finish("")
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		j, err := retry(ctx, func() (wire.JobInfo, error) { return m.Job(ctx, id) })
		if err != nil {
			return j, err
		}
		switch {
		case j.Failure != nil && j.State != "queued" && j.State != "leased":
			return j, fmt.Errorf("job %s failed: %s", id, j.Failure.Message)
		case j.State == "cancelled":
			return j, fmt.Errorf("job %s was cancelled", id)
		case j.State == "done":
			return j, nil
		}
		if p := j.Progress; p != nil {
			meter.Set(progress.State{Phase: j.State, Total: p.Total, Done: p.Done})
		}
		select {
		case <-ctx.Done():
			return j, ctx.Err()
		case <-time.After(wait):
		}
	}
}

type exportOptions struct {
	disk      int
	to        string
	journal   string
	overwrite bool
}

func newExport(a *app) *cobra.Command {
	o := &exportOptions{}
	c := &cobra.Command{Use: "export R --disk N --to FILE", Short: "Write a disk of a restpoint to a raw file or block device", Args: cobra.ExactArgs(1),
		Long: `Write a disk of a restpoint to a raw file or block device of this machine, straight from staging.

Beside a file stays FILE.omjournal, which says what the file holds. With it, another restpoint exported to the same file
writes only the difference: forwards to a newer one, or back to an older one. An export that was interrupted goes on.
A target that holds anything else is refused unless --overwrite is given.`,
		Example: "  openmigrate restpoints export web1/latest --disk 0 --to web1.img",
		RunE: func(c *cobra.Command, args []string) error {
			if o.to == "" {
				return cli.Usagef("--to FILE is needed\nUsage: %s", c.UseLine())
			}
			return runExport(c.Context(), a, o, args[0])
		}}
	f := c.Flags()
	f.IntVar(&o.disk, "disk", 0, "number of the disk in the restpoint, from 0")
	f.StringVar(&o.to, "to", "", "raw file or block device to write")
	f.StringVar(&o.journal, "journal", "", "where the target's journal is (default: beside a file; for devices in the state folder)")
	f.BoolVar(&o.overwrite, "overwrite", false, "write over whatever the target holds")
	return c
}

func runExport(ctx context.Context, a *app, o *exportOptions, ref string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	r, err := retry(ctx, func() (wire.RestpointInfo, error) { return m.Restpoint(ctx, ref) })
	if err != nil {
		return err
	}
	if o.disk < 0 || o.disk >= len(r.Disks) {
		return wire.NewProblem(404, wire.CodeNotFound, "restpoint %s has no disk %d: it has %d, from 0", r.ID, o.disk, len(r.Disks))
	}
	if o.journal == "" {
		if o.journal, err = deviceJournal(o.to); err != nil {
			return err
		}
	}
	job, err := m.Export(ctx, r.ID, &o.disk)
	if err != nil {
		return err
	}
	meter := progress.New(os.Stderr, filepath.Base(o.to))
	result, err := hydrator.Export(ctx, m.Client, job, o.disk, o.to, &hydrator.ExportOptions{Overwrite: o.overwrite, Journal: o.journal,
		Progress: func(p wire.Progress) {
			meter.Set(progress.State{Phase: p.Phase, Total: p.Total, Done: p.Done})
		}})
	meter.Finish("")
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("export stopped: run the same command again to go on")
		}
		return err
	}
	return a.out.Print(os.Stdout, &result, func(w io.Writer) {
		cli.Row(w, fmt.Sprintf("disk %d of %s is on %s: wrote %s, read %s from staging, every chunk checked", o.disk, r.ID, o.to,
			progress.Bytes(result.Written), progress.Bytes(result.Fetched)))
	})
}

// deviceJournal is where the journal of a block device is kept; a file's lies beside it.
func deviceJournal(to string) (string, error) {
	st, err := os.Stat(to)
	if err != nil || st.Mode()&os.ModeDevice == 0 {
		return "", nil // a file, or the export says what is wrong
	}
	dir := "/var/lib/openmigrate/volumes"
	if os.Getuid() != 0 {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a place for the device's journal (or give --journal): %w", err)
		}
		dir = filepath.Join(cache, "openmigrate", "volumes")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a place for the device's journal (or give --journal): %w", err)
	}
	return filepath.Join(dir, filepath.Base(to)+".omjournal"), nil
}
