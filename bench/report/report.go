// Package report turns measurements into the table of what must be reached. It holds the bars, and no measurement.
package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Bar is what a measurement must reach.
type Bar struct {
	What  string  // as the table says it
	Limit float64 // in Unit
	Most  bool    // Limit is the most that is allowed; else the least
	Unit  string  // behind a number: "×", " MiB", ""
	Value string  // format verb of numbers, "%.2f" when ""
}

// Row is a bar and what was measured against it, once or in several pairs.
type Row struct {
	What     string    `json:"what"`
	Bar      string    `json:"bar"`
	Measured *float64  `json:"measured"` // null: not measured
	Pairs    []float64 `json:"pairs,omitempty"`
	Unit     string    `json:"unit,omitempty"`
	Pass     bool      `json:"pass"`
	Detail   string    `json:"detail"`
	Info     bool      `json:"info,omitempty"` // there is no bar
	text     string
}

// number shows n as the bar's numbers are shown.
func (b Bar) number(n float64) string {
	verb := b.Value
	if verb == "" {
		verb = "%.2f"
	}
	return fmt.Sprintf(verb, n) + b.Unit
}

// String is the bar: "≥ 0.70".
func (b Bar) String() string {
	if b.Most {
		return "≤ " + b.number(b.Limit)
	}
	return "≥ " + b.number(b.Limit)
}

// Row compares a measurement with the bar. pairs may be nil when there was one only.
func (b Bar) Row(measured float64, pairs []float64, detail string, args ...any) Row {
	pass := measured >= b.Limit
	if b.Most {
		pass = measured <= b.Limit
	}
	return Row{What: b.What, Bar: b.String(), Measured: &measured, Pairs: pairs, Unit: strings.TrimSpace(b.Unit), Pass: pass,
		Detail: fmt.Sprintf(detail, args...), text: b.number(measured)}
}

// Missing is a row that was not measured, and why.
func (b Bar) Missing(why string) Row {
	return Row{What: b.What, Bar: b.String(), Unit: strings.TrimSpace(b.Unit), Detail: why, text: "-"}
}

// Info is a row without a bar.
func Info(what, measured, detail string, args ...any) Row {
	return Row{What: what, Info: true, Pass: true, Detail: fmt.Sprintf(detail, args...), text: measured}
}

// verdict is the last word on a row.
func (r *Row) verdict() string {
	switch {
	case r.Info:
		return ""
	case r.Measured == nil:
		return "not measured"
	case r.Pass:
		return "pass"
	}
	return "FAIL"
}

// Passed reports whether all bars were measured and reached.
func Passed(rows []Row) bool {
	for i := range rows {
		if !rows[i].Pass {
			return false
		}
	}
	return true
}

// Print writes rows as a table.
func Print(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tBAR\tMEASURED\t\tDETAIL")
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.What, r.Bar, r.text, r.verdict(), r.Detail)
	}
	return t.Flush()
}
