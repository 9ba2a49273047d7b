package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
)

func newNodes(a *app) *cobra.Command {
	c := &cobra.Command{Use: "nodes", Short: "Hydrators", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(
		&cobra.Command{Use: "ls", Short: "List nodes, their state and the next step", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return nodesLs(c.Context(), a) }},
		&cobra.Command{Use: "show ID", Short: "Show one node", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return nodesShow(c.Context(), a, args[0]) }},
		&cobra.Command{Use: "revoke ID", Short: "Shut a node out at once; others take over its jobs", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return nodesRevoke(c.Context(), a, args[0]) }},
	)
	return c
}

func nodesLs(ctx context.Context, a *app) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	list, err := m.Nodes(ctx)
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, list, func(w io.Writer) {
		cli.Row(w, "ID", "NAME", "STATE", "VERSION", "LAST SEEN", "NEXT STEP")
		for _, n := range list {
			cli.Row(w, n.ID, n.Name, n.State, n.Version, n.LastSeen.Format(time.RFC3339), n.NextStep)
		}
	})
}

func nodesShow(ctx context.Context, a *app, id string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	n, err := m.Node(ctx, id)
	if err != nil {
		return err
	}
	return a.out.Print(os.Stdout, &n, func(w io.Writer) {
		cli.Row(w, "id", n.ID)
		cli.Row(w, "name", n.Name)
		cli.Row(w, "state", n.State)
		if why := n.Revoked + n.Frozen; why != "" {
			cli.Row(w, "why", why)
		}
		cli.Row(w, "next step", n.NextStep)
		cli.Row(w, "version", n.Version)
		cli.Row(w, "enrolled", n.Created.Format(time.RFC3339))
		cli.Row(w, "last seen", n.LastSeen.Format(time.RFC3339))
		cli.Row(w, "starts", n.Generation)
	})
}

func nodesRevoke(ctx context.Context, a *app, id string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	if err := m.RevokeNode(ctx, id); err != nil {
		return err
	}
	return a.out.Print(os.Stdout, map[string]string{"node": id, "result": "revoked"}, func(w io.Writer) { cli.Row(w, id+" revoked") })
}
