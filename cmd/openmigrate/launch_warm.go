package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/progress"
	"github.com/openmigrate/openmigrate/wire"
)

func newLaunchWarm(a *app) *cobra.Command {
	return &cobra.Command{Use: "warm", Short: "List the standing volumes of machines: which restpoint they hold, and what they cost in size", Args: cobra.NoArgs,
		Long: "Standing volumes follow each restpoint of a machine whose launch template says warm, so that a launch has little left to write.",
		RunE: func(c *cobra.Command, _ []string) error { return launchWarm(c.Context(), a) }}
}

// standing is a machine's standing volumes in a list.
type standing struct {
	Machine string `json:"machine"` // name
	wire.WarmInfo
}

func launchWarm(ctx context.Context, a *app) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	machines, err := retry(ctx, func() ([]wire.MachineInfo, error) { return m.Machines(ctx) })
	if err != nil {
		return err
	}
	list := []standing{}
	for i := range machines {
		if w := machines[i].Warm; w != nil {
			list = append(list, standing{machines[i].Name, *w})
		}
	}
	return a.out.Print(os.Stdout, list, func(w io.Writer) { printWarm(w, list) })
}

func printWarm(w io.Writer, list []standing) {
	cli.Row(w, "MACHINE", "PROVIDER", "STATE", "RESTPOINT", "AGE", "VOLUMES", "SIZE", "APPLYING", "PROBLEM")
	for i := range list {
		x := &list[i]
		applying := "-"
		if x.Applying != "" {
			applying = x.Applying + ", " + percent(x.Progress)
		}
		cli.Row(w, x.Machine, x.Provider, x.State, dash(x.Restpoint), age(x.Instant), x.Volumes, progress.Bytes(x.Size), applying, dash(x.Problem))
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printStanding writes how a machine's standing volumes are, beside the rest of what is shown of it.
func printStanding(w io.Writer, x *wire.WarmInfo) {
	held := "no restpoint yet"
	if x.Restpoint != "" {
		held = fmt.Sprintf("restpoint %s of %s", x.Restpoint, age(x.Instant))
	}
	cli.Row(w, "warm copy", fmt.Sprintf("%s at %s: %s, volumes: %d of %s", x.State, x.Provider, held, x.Volumes, progress.Bytes(x.Size)))
	if x.Applying != "" {
		cli.Row(w, "", fmt.Sprintf("restpoint %s is being applied, %s", x.Applying, percent(x.Progress)))
	}
	if x.Launch != "" {
		cli.Row(w, "", "launch "+x.Launch+" has it")
	}
	if x.Problem != "" {
		cli.Row(w, "", "it does not get on: "+x.Problem)
	}
}
