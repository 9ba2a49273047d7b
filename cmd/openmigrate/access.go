package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/durable"
	"github.com/openmigrate/openmigrate/wire"
)

func newLogin(a *app) *cobra.Command {
	return &cobra.Command{Use: "login", Short: "Save where the master is and the token to use", Args: cobra.NoArgs,
		Long: "Save where the master is and the token to use. --url and --ca-file say where; the token is read from standard input, or from OPENMIGRATE_TOKEN.",
		RunE: func(c *cobra.Command, _ []string) error { return login(c.Context(), a, c.InOrStdin()) }}
}

func login(ctx context.Context, a *app, stdin io.Reader) error {
	if os.Getenv("OPENMIGRATE_TOKEN") == "" {
		fmt.Fprint(os.Stderr, "Token: ")
		line, err := bufio.NewReader(stdin).ReadString('\n')
		if err != nil && line == "" {
			return cli.Usagef("no token on standard input")
		}
		a.token = strings.TrimSpace(line)
	}
	s, err := a.where()
	if err != nil {
		return err
	}
	m, err := dial(s)
	if err != nil {
		return err
	}
	who, err := m.Whoami(ctx)
	if err != nil {
		return err
	}
	name, err := savedFile()
	if err != nil {
		return err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(name, b, 0o600); err != nil {
		return err
	}
	return a.out.Print(os.Stdout, &who, func(w io.Writer) { cli.Row(w, "logged in to "+s.URL+" as "+who.Name+" ("+who.Role+")") })
}

func newWhoami(a *app) *cobra.Command {
	return &cobra.Command{Use: "whoami", Short: "Show whose token is used, and which master it is for", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := a.master()
			if err != nil {
				return err
			}
			who, err := retry(c.Context(), func() (wire.Whoami, error) { return m.Whoami(c.Context()) })
			if err != nil {
				return err
			}
			return a.out.Print(os.Stdout, &who, func(w io.Writer) {
				cli.Row(w, "name", who.Name)
				cli.Row(w, "role", who.Role)
				cli.Row(w, "project", who.Project)
				cli.Row(w, "master", who.Version)
			})
		}}
}

func newTokens(a *app) *cobra.Command {
	c := &cobra.Command{Use: "tokens", Short: "API tokens of people, and enrolment tokens of agents and nodes", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(newTokensLs(a), newTokensCreate(a), newTokensEnroll(a), newTokensEnrolments(a),
		&cobra.Command{Use: "rm ID", Short: "Make a token of either sort worthless", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				m, err := a.master()
				if err != nil {
					return err
				}
				err = m.RemoveToken(c.Context(), args[0])
				if wire.HasCode(err, wire.CodeNotFound) {
					err = m.RemoveEnrolToken(c.Context(), args[0])
				}
				if err != nil {
					return err
				}
				return a.out.Print(os.Stdout, map[string]string{"id": args[0], "result": "removed"}, func(w io.Writer) { cli.Row(w, args[0]+" removed") })
			}})
	return c
}

func newTokensLs(a *app) *cobra.Command {
	return &cobra.Command{Use: "ls", Short: "List API tokens", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		m, err := a.master()
		if err != nil {
			return err
		}
		list, err := m.Tokens(c.Context())
		if err != nil {
			return err
		}
		return a.out.Print(os.Stdout, list, func(w io.Writer) {
			cli.Row(w, "ID", "NAME", "ROLE", "CREATED", "EXPIRES")
			for _, t := range list {
				cli.Row(w, t.ID, t.Name, t.Role, t.Created.Format(time.RFC3339), until(t.Expires))
			}
		})
	}}
}

func until(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.RFC3339)
}

func newTokensCreate(a *app) *cobra.Command {
	var role string
	var valid time.Duration
	c := &cobra.Command{Use: "create NAME", Short: "Make an API token; its text is shown this once", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			m, err := a.master()
			if err != nil {
				return err
			}
			t, err := m.CreateToken(c.Context(), wire.TokenRequest{Name: args[0], Role: role, Valid: wire.Duration(valid)})
			if err != nil {
				return err
			}
			return a.out.Print(os.Stdout, &t, func(w io.Writer) { cli.Row(w, t.Token) })
		}}
	c.Flags().StringVar(&role, "role", "viewer", "viewer, operator or admin")
	c.Flags().DurationVar(&valid, "valid", 90*24*time.Hour, "how long it is good for; 0: until it is removed")
	return c
}

func newTokensEnroll(a *app) *cobra.Command {
	q := wire.EnrolTokenRequest{}
	var valid time.Duration
	c := &cobra.Command{Use: "enroll", Short: "Make an enrolment token for an agent or node; its text is shown this once", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := a.master()
			if err != nil {
				return err
			}
			q.Valid = wire.Duration(valid)
			t, err := m.CreateEnrolToken(c.Context(), q)
			if err != nil {
				return err
			}
			return a.out.Print(os.Stdout, &t, func(w io.Writer) { cli.Row(w, t.Token) })
		}}
	c.Flags().StringVar(&q.Kind, "kind", "agent", "agent or node")
	c.Flags().IntVar(&q.Uses, "uses", 1, "how many may enrol with it")
	c.Flags().DurationVar(&valid, "valid", 24*time.Hour, "how long it is good for")
	return c
}

func newTokensEnrolments(a *app) *cobra.Command {
	return &cobra.Command{Use: "enrolments", Short: "List enrolment tokens and who used them", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		m, err := a.master()
		if err != nil {
			return err
		}
		list, err := m.EnrolTokens(c.Context())
		if err != nil {
			return err
		}
		return a.out.Print(os.Stdout, list, func(w io.Writer) {
			cli.Row(w, "ID", "KIND", "EXPIRES", "USES LEFT", "USED BY")
			for _, t := range list {
				cli.Row(w, t.ID, t.Kind, until(t.Expires), t.Uses, strings.Join(t.UsedBy, " "))
			}
		})
	}}
}

func newKeys(a *app) *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "The project's keys", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var to string
	recovery := &cobra.Command{Use: "recovery --to FILE", Short: "Make an offline key that opens the bucket when the master is lost", Args: cobra.NoArgs,
		Long: "Make an offline key that opens the bucket when the master's data directory is lost. Keep the file somewhere else, and secret.",
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" {
				return cli.Usagef("--to FILE is needed")
			}
			if _, err := os.Lstat(to); err == nil {
				return fmt.Errorf("%s exists: name another file", to)
			}
			m, err := a.master()
			if err != nil {
				return err
			}
			key, err := m.RecoveryKey(c.Context())
			if err != nil {
				return err
			}
			if err := durable.WriteFile(to, []byte("# OpenMigrate recovery key. With it and the bucket everything can be restored.\n"+key+"\n"), 0o600); err != nil {
				return err
			}
			return a.out.Print(os.Stdout, map[string]string{"file": to}, func(w io.Writer) { cli.Row(w, "recovery key is in "+to+": keep it off this machine") })
		}}
	recovery.Flags().StringVar(&to, "to", "", "file to write")
	c.AddCommand(recovery)
	return c
}
