// Package cli holds what both programs' commands share: exit statuses, output, clean stops. Commands themselves are in cmd.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/wire"
)

// Exit statuses. Scripts rely on them.
const (
	ExitDone       = 0
	ExitFailed     = 1
	ExitUsage      = 2
	ExitNotFound   = 3
	ExitNotAllowed = 4
	ExitConflict   = 5
)

// usageError marks errors in how a command was called.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// Usagef reports that the command was called wrongly: exit status 2.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Status maps an error onto an exit status.
func Status(err error) int {
	var usage usageError
	var problem *wire.Problem
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &problem):
		switch problem.Code {
		case wire.CodeNotFound:
			return ExitNotFound
		case wire.CodeUnauthorized, wire.CodeForbidden, wire.CodeRevoked, wire.CodeFrozen, wire.CodeTokenExpired, wire.CodeTokenUsed:
			return ExitNotAllowed
		case wire.CodeConflict, wire.CodeBusy, wire.CodeFenced, wire.CodeStale, wire.CodeChanged, wire.CodeKeyReused:
			return ExitConflict
		}
	}
	return ExitFailed
}

// Main runs root with a context that SIGINT and SIGTERM end, prints an error once, and returns the exit status. A
// second signal ends the program at once.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usagef("%w\nSee '%s --help'.", err, c.CommandPath())
	})
	wrapArgs(root)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitDone
	}
	if strings.HasPrefix(err.Error(), "unknown command") {
		err = usageError{err}
	}
	fmt.Fprintf(root.ErrOrStderr(), "%s: %v\n", root.Name(), err)
	return Status(err)
}

// wrapArgs makes every command's complaint about its arguments a usage error.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return Usagef("%w\nUsage: %s", err, c.UseLine())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

// Output is the -o flag.
type Output struct{ Format string }

// Flag adds -o to a command and those below it.
func (o *Output) Flag(c *cobra.Command) {
	c.PersistentFlags().StringVarP(&o.Format, "output", "o", "table", "table, or json: one JSON document on standard output and nothing else there")
}

// Check refuses unknown formats.
func (o *Output) Check() error {
	if o.Format != "table" && o.Format != "json" {
		return Usagef("-o %q: want table or json", o.Format)
	}
	return nil
}

// Print writes v as one JSON document, or calls table with a writer that aligns columns on tabs.
func (o *Output) Print(w io.Writer, v any, table func(io.Writer)) error {
	if o.Format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	table(t)
	return t.Flush()
}

// Row writes one line of a table. Control characters in cells cannot reach the terminal.
func Row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, Clean(fmt.Sprint(c)))
	}
	fmt.Fprintln(w)
}

// Clean replaces control and format characters (escape sequences, tabs, right-to-left marks), which names that come from
// agents can hold, by U+FFFD.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff {
			return '\ufffd'
		}
		return r
	}, s)
}

// escapes are what terminals take for commands: control sequences, operating system commands, and short ones.
var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])`)

// CleanText makes text of many lines fit for a terminal: what a console shows, without its escape sequences, and with everything else as Clean leaves it. Lines stay lines.
func CleanText(b []byte) string {
	s := escapes.ReplaceAllString(strings.ToValidUTF8(string(b), "\ufffd"), "")
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(strings.ReplaceAll(s, "\t", "        "), "\n")
	for i := range lines {
		lines[i] = Clean(strings.TrimRight(lines[i], " "))
	}
	return strings.Join(lines, "\n")
}
