package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/report"
)

const notRun = "this part did not run"

// table compares everything that was measured with its bar.
func table(o *options, r *results) []report.Row {
	var rows []report.Row
	if o.wants("freeze") {
		rows = append(rows, freezeRows(r.Freeze)...)
	}
	if o.wants("throughput") {
		rows = append(rows, throughputRow(r.Throughput))
	}
	if o.wants("sparse") {
		rows = append(rows, sparseRow(r.Sparse))
	}
	if o.wants("rpo") {
		rows = append(rows, rpoRows(r.RPO)...)
	}
	if o.wants("wire8k") {
		rows = append(rows, wireRows(r.Wire8k)...)
	}
	return rows
}

// freezeRows: the bar is on what the agent reports; what the writer felt stands beside it, and is its own measurement.
func freezeRows(f *frozen) []report.Row {
	if f == nil || len(f.Restpoints) == 0 {
		return []report.Row{report.Freeze.Missing(notRun), report.Instant.Missing(notRun)}
	}
	rows := []report.Row{report.Freeze.Missing("every restpoint stayed fuzzy")}
	var froze, stall, longest, passes []float64
	for i := range f.Restpoints {
		t := &f.Restpoints[i]
		passes, longest = append(passes, float64(t.Passes)), append(longest, ms(t.Longest))
		if !t.fuzzy() {
			froze, stall = append(froze, ms(t.Frozen)), append(stall, ms(t.Stall))
		}
	}
	if len(froze) > 0 {
		rows[0] = report.Freeze.Row(measure.Median(froze), froze, "p90 %.1f, worst %.1f ms in %d restpoints; %s of %s/s wanted were written", measure.Percentile(froze, 0.9), slices.Max(froze),
			len(froze), mb(int64(f.achieved())), mb(f.Rate))
		rows = append(rows, report.Info("the write that was under way at the instant of the freeze took", fmt.Sprintf("%.1f ms", measure.Median(stall)),
			"median; p90 %.1f, worst %.1f ms, by the writer's own clock", measure.Percentile(stall, 0.9), slices.Max(stall)))
	}
	rows = append(rows,
		report.Info("longest write from request to listing", fmt.Sprintf("%.1f ms", measure.Median(longest)), "median; p90 %.1f, worst %.1f ms", measure.Percentile(longest, 0.9), slices.Max(longest)),
		report.Info("passes of a restpoint", fmt.Sprintf("%.0f", measure.Median(passes)), "median; most %.0f; CPU in %.0f s: agent %.1f s, master and S3 server %.1f s", slices.Max(passes), f.For.Seconds(),
			f.AgentCPU.Seconds(), f.Server.Seconds()))
	return append(rows, instantRow(f.Restpoints, f.Wanted))
}

// instantRow is the share of the wanted restpoints that are not fuzzy, the others by number, and why the last of them is.
func instantRow(list []taken, wanted int) report.Row {
	detail, why := consistencies(list), ""
	var fuzzy []string
	for i := range list {
		if !list[i].fuzzy() {
			continue
		}
		fuzzy = append(fuzzy, strconv.Itoa(i+1))
		if n := len(list[i].Why); n > 0 {
			why = list[i].Why[n-1]
		}
	}
	if len(fuzzy) > 0 {
		detail += fmt.Sprintf("; fuzzy: %s; %s", strings.Join(fuzzy, ", "), why)
	}
	if len(list) < wanted {
		detail += fmt.Sprintf("; %d were not taken for want of time", wanted-len(list))
	}
	return report.Instant.Row(float64(len(list)-len(fuzzy))/float64(wanted), nil, "%s", detail)
}

func throughputRow(t *throughput) report.Row {
	if t == nil {
		return report.Overhead.Missing(notRun)
	}
	var ratios, plain []float64
	for _, p := range t.Pairs {
		ratios, plain = append(ratios, p.Ratio()), append(plain, t.rate(p.Plain))
	}
	return report.Overhead.Row(measure.Median(ratios), ratios, "worst pair %.2f, best %.2f of %d; %.0f writes a second without; %d other trackers on the machine",
		slices.Min(ratios), slices.Max(ratios), len(ratios), measure.Median(plain), len(t.Others))
}

func sparseRow(s *sparse) report.Row {
	if s == nil {
		return report.Sparse.Missing(notRun)
	}
	var ratios []float64
	for i := range s.Pairs {
		ratios = append(ratios, s.Pairs[i].ratio())
	}
	median := func(of func(*sparsePair) time.Duration) float64 { return measure.Median(s.walls(of)).Seconds() }
	return report.Sparse.Row(measure.Median(ratios), ratios, "%s: %.2f s (agent's CPU %.2f s), %s: %.2f s (%.2f s), %d pairs", gib(s.Large), median(func(p *sparsePair) time.Duration { return p.Large.Wall }),
		median(func(p *sparsePair) time.Duration { return p.Large.Agent.CPU }), gib(s.Small), median(func(p *sparsePair) time.Duration { return p.Small.Wall }),
		median(func(p *sparsePair) time.Duration { return p.Small.Agent.CPU }), len(s.Pairs))
}

func rpoRows(r *rpo) []report.Row {
	if r == nil || len(r.Samples) == 0 {
		return []report.Row{report.RPO.Missing(notRun)}
	}
	row := report.RPO.Row(measure.Percentile(r.Samples, 0.99).Seconds(), nil, "p50 %.2f, worst %.2f s in %.0f s, asked every 250 ms; interval %v; %s of %s/s wanted were written; by state %v; the first restpoint under load, before that, took %.1f s",
		measure.Percentile(r.Samples, 0.5).Seconds(), slices.Max(r.Samples).Seconds(), r.For.Seconds(), r.Interval, mb(int64(r.achieved())), mb(r.Rate), r.States, r.WarmUp.Seconds())
	if len(r.Restpoints) == 0 {
		return []report.Row{row}
	}
	var froze []float64
	for i := range r.Restpoints {
		if t := &r.Restpoints[i]; !t.fuzzy() && t.Frozen > 0 {
			froze = append(froze, ms(t.Frozen))
		}
	}
	rows := []report.Row{row,
		report.Info("put into staging per byte written, "+mb(r.Rate)+"/s of 4 KiB", fmt.Sprintf("%.2f", float64(r.stored())/float64(r.Written)), "%s put for %s; the agent wrote %s to sockets and files",
			mb(r.stored()), mb(r.Written), mb(r.AgentWrote)),
		report.Info("CPU seconds per second meanwhile", fmt.Sprintf("%.2f", (r.AgentCPU+r.Server).Seconds()/r.For.Seconds()), "agent %.1f s, master and S3 server %.1f s", r.AgentCPU.Seconds(), r.Server.Seconds()),
		report.Info("restpoints meanwhile", fmt.Sprintf("%d", len(r.Restpoints)), "%s", consistencies(r.Restpoints)),
	}
	if len(froze) > 0 {
		rows = append(rows, report.Info("frozen in each of them", fmt.Sprintf("%.1f ms", measure.Median(froze)), "median; p90 %.1f, worst %.1f ms", measure.Percentile(froze, 0.9), slices.Max(froze)))
	}
	return rows
}

func wireRows(list []variant) []report.Row {
	var rows []report.Row
	for i := range list {
		if v := &list[i]; len(v.Rounds) > 0 {
			rows = append(rows, report.Info("put per byte of random 8 KiB writes, "+v.Name, fmt.Sprintf("%.2f", v.cost()), "%d restpoints after %s each, in %s of chunks",
				len(v.Rounds), mb(v.Rounds[0].Written), mb(v.Rounds[0].Changed)))
		}
	}
	return rows
}
