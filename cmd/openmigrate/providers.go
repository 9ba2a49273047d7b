package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/providers"
	"github.com/openmigrate/openmigrate/wire"
)

func newProviders(a *app) *cobra.Command {
	c := &cobra.Command{Use: "providers", Short: "Places where machines are brought up", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var remove bool
	orphans := &cobra.Command{Use: "orphans P", Short: "List what is left at a provider and belongs to no launch that lives", Args: cobra.ExactArgs(1),
		Long: "List what carries this master's mark at provider P and belongs to no launch that lives and to no warm copy. With --remove it is deleted.",
		RunE: func(c *cobra.Command, args []string) error { return providersOrphans(c.Context(), a, args[0], remove) }}
	orphans.Flags().BoolVar(&remove, "remove", false, "delete them, and list what was deleted")
	c.AddCommand(
		&cobra.Command{Use: "ls", Short: "List providers: networks, types, and what is wrong", Args: cobra.NoArgs,
			Long: "List providers. With -o json everything that they can do is in the list: capabilities, instance types, networks, settings.",
			RunE: func(c *cobra.Command, _ []string) error { return providersLs(c.Context(), a) }},
		&cobra.Command{Use: "check P", Short: "Try everything that launches need at a provider; fail if it does not do as it must", Args: cobra.ExactArgs(1),
			Long: `Run the conformance suite at provider P: it makes small empty volumes and machines that boot nothing, and removes them again.
At a cloud that costs some minutes of the smallest type.`,
			RunE: func(c *cobra.Command, args []string) error { return providersCheck(c.Context(), a, args[0]) }},
		orphans,
	)
	return c
}

func providersLs(ctx context.Context, a *app) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	list, err := retry(ctx, func() ([]wire.ProviderInfo, error) { return m.Providers(ctx) })
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, list, func(w io.Writer) {
		cli.Row(w, "NAME", "KIND", "STATE", "TYPES", "NETWORKS", "NOTES")
		for i := range list {
			p := &list[i]
			state := "ready"
			if p.Error != "" {
				state = p.Error
			}
			types, networks := catalogue(p)
			cli.Row(w, p.Name, p.Kind, state, types, networks, strings.Join(p.Notes, "; "))
		}
	})
}

// catalogue sums up what there is to choose from at a provider. What cannot be read is not shown; -o json has it all.
func catalogue(p *wire.ProviderInfo) (types int, networks string) {
	var t []providers.InstanceType
	var n []providers.Network
	_, _ = json.Unmarshal(p.Types, &t), json.Unmarshal(p.Networks, &n)
	names := make([]string, 0, len(n))
	for _, network := range n {
		name := network.ID
		if network.Isolated {
			name += " (isolated)"
		}
		names = append(names, name)
	}
	return len(t), strings.Join(names, ", ")
}

func providersCheck(ctx context.Context, a *app, name string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	check, err := m.CheckProvider(ctx, name, func(line string) { fmt.Fprintln(os.Stderr, cli.Clean(line)) })
	if err != nil {
		return err
	}
	if err := a.out.Print(os.Stdout, &check, func(w io.Writer) {
		cli.Row(w, fmt.Sprintf("provider %s: %d parts passed, %d failed", name, check.Passed, check.Failed))
	}); err != nil {
		return err
	}
	if check.Failed > 0 {
		return fmt.Errorf("provider %s does not do as it must: %d parts failed", name, check.Failed)
	}
	return nil
}

func providersOrphans(ctx context.Context, a *app, name string, remove bool) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	var list []wire.Orphan
	if remove {
		list, err = m.SweepOrphans(ctx, name)
	} else {
		list, err = retry(ctx, func() ([]wire.Orphan, error) { return m.Orphans(ctx, name) })
	}
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, list, func(w io.Writer) {
		cli.Row(w, "KIND", "ID", "NAME", "LAUNCH", "CREATED")
		for _, o := range list {
			cli.Row(w, o.Kind, o.ID, o.Name, o.Launch, o.Created.Format(time.RFC3339))
		}
	})
}
