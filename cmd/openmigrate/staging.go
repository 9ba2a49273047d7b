package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/progress"
	"github.com/openmigrate/openmigrate/staging/builtin"
	"github.com/openmigrate/openmigrate/wire"
)

func newStaging(a *app) *cobra.Command {
	c := &cobra.Command{Use: "staging", Short: "The bucket and its index", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var deep bool
	check := &cobra.Command{Use: "check", Short: "Compare the index with the bucket; fail if a restpoint is not whole", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			op := "check"
			if deep {
				op = "check-deep"
			}
			return stagingRun(c.Context(), a, op)
		}}
	check.Flags().BoolVar(&deep, "deep", false, "also read what each pack lists, and compare it with the index")
	c.AddCommand(
		&cobra.Command{Use: "stats", Short: "Show what is in staging and what dedup and compression saved", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return stagingStats(c.Context(), a) }},
		check,
		&cobra.Command{Use: "gc", Short: "Delete what no restpoint, session or reader needs", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return stagingRun(c.Context(), a, "gc") }},
		&cobra.Command{Use: "rebuild-index", Short: "Make the index anew from the bucket alone", Args: cobra.NoArgs,
			Long: "Make the index anew from the bucket alone: for a master whose store was lost. What is there already stays.",
			RunE: func(c *cobra.Command, _ []string) error { return stagingRun(c.Context(), a, "rebuild-index") }},
	)
	return c
}

func stagingStats(ctx context.Context, a *app) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	stats, err := retry(ctx, func() (wire.StagingStats, error) { return m.StagingStats(ctx) })
	if err != nil {
		return err
	}
	report, err := json.Marshal(stats)
	if err != nil {
		return err
	}
	return a.printReport(report)
}

func stagingRun(ctx context.Context, a *app, op string) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	last := time.Now()
	report, err := m.RunStaging(ctx, op, func(p wire.Progress) { // counts of things, not bytes
		if time.Since(last) >= progress.Every {
			last = time.Now()
			fmt.Fprintf(os.Stderr, "staging %s: %s %d of %d\n", op, p.Phase, p.Done, p.Total)
		}
	})
	if err != nil {
		return err
	}
	if err := a.printReport(report); err != nil {
		return err
	}
	var verdict struct {
		OK *bool `json:"ok"`
	}
	if json.Unmarshal(report, &verdict) == nil && verdict.OK != nil && !*verdict.OK {
		return errors.New("staging has problems: see above")
	}
	return nil
}

// printReport shows a report as it came, or as lines of name and value.
func (a *app) printReport(report json.RawMessage) error {
	if a.out.Format == "json" {
		return a.out.Print(os.Stdout, report, nil)
	}
	var fields map[string]any
	if err := json.Unmarshal(report, &fields); err != nil {
		return fmt.Errorf("decode report: %w", err)
	}
	return a.out.Print(os.Stdout, nil, func(w io.Writer) { rows(w, "", fields) })
}

func rows(w io.Writer, prefix string, fields map[string]any) {
	names := make([]string, 0, len(fields))
	for n := range fields {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		switch v := fields[n].(type) {
		case map[string]any:
			rows(w, prefix+n+".", v)
		case []any:
			for _, x := range v {
				if m, ok := x.(map[string]any); ok {
					b, _ := json.Marshal(m) // it came as JSON
					x = string(b)
				}
				cli.Row(w, prefix+n, x)
			}
		case float64:
			if v == float64(int64(v)) {
				cli.Row(w, prefix+n, int64(v))
			} else {
				cli.Row(w, prefix+n, fmt.Sprintf("%.3f", v))
			}
		default:
			cli.Row(w, prefix+n, v)
		}
	}
}

// newServeStaging is how this program serves built-in staging: the master runs it as its child, and tells it the rest on
// its standard input.
func newServeStaging() *cobra.Command {
	return &cobra.Command{Use: "serve-staging", Hidden: true, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return builtin.ServeFrom(c.Context(), os.Stdin)
	}}
}
