package main

import (
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/openmigrate/openmigrate/agent"
	"github.com/openmigrate/openmigrate/agent/cycle"
	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/progress"
	"github.com/openmigrate/openmigrate/internal/secretscan"
	"github.com/openmigrate/openmigrate/internal/telemetry/otlp"
	"github.com/openmigrate/openmigrate/internal/version"
	"github.com/openmigrate/openmigrate/wire"
)

const defaultStateDir = "/var/lib/openmigrate-agent"

func newRun() *cobra.Command {
	o := agent.Options{}
	var verbose bool
	c := &cobra.Command{Use: "run", Short: "Replicate until stopped; enrols at the first start", Args: cobra.NoArgs,
		Long: `Replicate until stopped. At the first start the agent enrols with --token, which is good for one agent; afterwards its
identity is in --state-dir and neither --token nor --master is needed.

Without --disk every whole disk of the host is replicated, which needs root.`,
		RunE: func(c *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: secretscan.Attr}))
			show(&o)
			stop, err := otlp.Start(c.Context(), "openmigrate-agent", version.String(), o.Log)
			if err != nil {
				return err
			}
			defer stop()
			return agent.Run(c.Context(), o)
		}}
	f := c.Flags()
	f.StringVar(&o.MasterURL, "master", os.Getenv("OPENMIGRATE_URL"), "the master's URL (OPENMIGRATE_URL; default: the one in the token)")
	f.StringVar(&o.Token, "token", os.Getenv("OPENMIGRATE_ENROLL_TOKEN"), "enrolment token, at the first start (OPENMIGRATE_ENROLL_TOKEN)")
	f.StringVar(&o.StateDir, "state-dir", defaultStateDir, "folder for identity and state")
	f.StringVar(&o.Name, "name", "", "name to enrol under (default: the host's)")
	f.StringArrayVar(&o.Disks, "disk", nil, "device or raw image file to replicate, in place of every disk; again for each")
	f.BoolVar(&o.WholeChunks, "whole-chunks", false, "read and send whole chunks where only some of their 4 KiB blocks were written")
	f.BoolVar(&o.IncludeFree, "include-free", false, "send blocks that file systems say are free, too")
	f.BoolVar(&o.Moved, "moved", false, "this is the server that the identity is of, on new hardware")
	f.BoolVar(&o.AdoptCopy, "adopt-copy", false, "this host is a copy of another: enrol it anew with --token; the copied state is moved aside")
	f.BoolVarP(&verbose, "verbose", "v", false, "log more")
	return c
}

// show draws a bar on a terminal for each cycle. Elsewhere the log says enough.
func show(o *agent.Options) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return
	}
	var mu sync.Mutex
	var meter *progress.Meter
	o.Progress = func(p wire.Progress) {
		mu.Lock()
		defer mu.Unlock()
		if meter == nil {
			meter = progress.New(os.Stderr, "restpoint")
		}
		meter.Set(progress.State{Phase: p.Phase, Total: p.Total, Done: p.Done, Note: "saved " + progress.Bytes(p.Zero+p.Same+p.Known)})
	}
	o.Done = func(r *cycle.Result) {
		mu.Lock()
		defer mu.Unlock()
		if meter != nil {
			meter.Finish(fmt.Sprintf("restpoint %s: sent %s as %s", r.Restpoint, progress.Bytes(r.Stats.Sent), progress.Bytes(r.Stats.Stored)))
			meter = nil
		}
	}
}

func newStatus() *cobra.Command {
	var dir string
	out := cli.Output{}
	c := &cobra.Command{Use: "status", Short: "Show what the agent of this host is doing", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := out.Check(); err != nil {
				return err
			}
			return status(dir, &out)
		}}
	c.Flags().StringVar(&dir, "state-dir", defaultStateDir, "folder for identity and state")
	out.Flag(c)
	return c
}
