package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/internal/durable"
)

func newLaunchConsole(a *app) *cobra.Command {
	var raw bool
	c := &cobra.Command{Use: "console L", Short: "Show the last 64 KiB of what a launched machine wrote to its console", Args: cobra.ExactArgs(1),
		Long: "Show the last 64 KiB of what a launched machine wrote to its console: live while it runs, as it was at the end afterwards.",
		RunE: func(c *cobra.Command, args []string) error { return launchConsole(c.Context(), a, args[0], raw) }}
	c.Flags().BoolVar(&raw, "raw", false, "byte for byte, with the control characters that the machine wrote: they can do anything to a terminal")
	return c
}

func launchConsole(ctx context.Context, a *app, id string, raw bool) error {
	m, err := a.master()
	if err != nil {
		return err
	}
	b, err := retry(ctx, func() ([]byte, error) { return m.LaunchConsole(ctx, id) })
	if err != nil {
		return err
	}
	text := string(b)
	if !raw {
		text = cli.CleanText(b)
	}
	if a.out.Format == "json" {
		return a.out.Print(os.Stdout, map[string]string{"id": id, "console": text}, nil)
	}
	_, err = io.WriteString(os.Stdout, text)
	if err == nil && !raw && text != "" && text[len(text)-1] != '\n' {
		_, err = io.WriteString(os.Stdout, "\n")
	}
	return err
}

func newLaunchScreenshot(a *app) *cobra.Command {
	var to string
	var overwrite bool
	c := &cobra.Command{Use: "screenshot L --to FILE", Short: "Save the last picture of a launched machine's screen, a PNG", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return launchScreenshot(c.Context(), a, args[0], to, overwrite)
		}}
	c.Flags().StringVar(&to, "to", "", "file to write (needed)")
	c.Flags().BoolVar(&overwrite, "overwrite", false, "replace FILE")
	return c
}

func launchScreenshot(ctx context.Context, a *app, id, to string, overwrite bool) error {
	if to == "" {
		return cli.Usagef("--to FILE is needed")
	}
	if _, err := os.Lstat(to); err == nil && !overwrite {
		return fmt.Errorf("save screenshot to %s: it exists (--overwrite replaces it)", to)
	}
	m, err := a.master()
	if err != nil {
		return err
	}
	b, err := retry(ctx, func() ([]byte, error) { return m.LaunchScreenshot(ctx, id) })
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")) {
		return fmt.Errorf("save screenshot of %s: the master sent %d bytes that are no PNG", id, len(b))
	}
	if err := durable.WriteFile(to, b, 0o600); err != nil {
		return err
	}
	return a.out.Print(os.Stdout, map[string]any{"id": id, "file": to, "size": len(b)}, func(w io.Writer) { cli.Row(w, "screenshot is in "+to) })
}
