package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrBars: a benchmark ran, and not all bars were reached.
var ErrBars = errors.New("not all bars are reached")

// Document is what a benchmark shows, and what it writes as JSON.
type Document struct {
	Heading []string `json:"-"` // lines above the table: the machine, what was compared
	Rows    []Row    `json:"rows"`
	Results any      `json:"results"` // all that was measured
}

// Show prints the table, and writes the document to file unless that is "". With enforce it returns ErrBars if a bar is not reached.
func (d *Document) Show(w io.Writer, file string, enforce bool) error {
	fmt.Fprintln(w)
	for _, line := range d.Heading {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w)
	if err := Print(w, d.Rows); err != nil {
		return fmt.Errorf("print table: %w", err)
	}
	if file != "" {
		b, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return fmt.Errorf("write results: %w", err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	if enforce && !Passed(d.Rows) {
		return ErrBars
	}
	return nil
}
