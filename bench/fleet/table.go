package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/report"
)

// table compares everything that was measured with its bar.
func table(o *options, r *results) []report.Row {
	var rows []report.Row
	if o.wants("fleet") {
		rows = append(rows, fleetRows(r.Fleet)...)
	}
	if o.wants("offer") {
		rows = append(rows, offerRows(r.Offer)...)
	}
	return rows
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %.0f, p99 %.0f, worst %.0f ms of %d", ms(measure.Percentile(d, 0.5)), ms(measure.Percentile(d, 0.99)), ms(slices.Max(d)), len(d))
}

func fleetRows(f *fleetResult) []report.Row {
	if f == nil || len(f.Reads) == 0 {
		const notRun = "this part did not run to its end"
		return []report.Row{report.FleetReads.Missing(notRun), report.FleetLost.Missing(notRun), report.FleetMemory.Missing(notRun), report.FleetCommits.Missing(notRun)}
	}
	var all []time.Duration
	for _, d := range f.Reads {
		all = append(all, d...)
	}
	seconds := f.For.Seconds()
	rows := []report.Row{
		report.FleetReads.Row(ms(measure.Percentile(all, 0.99)), nil, "%s; %d agents, load %s at the end", spread(all), f.Agents, f.Load),
		report.FleetLost.Row(float64(f.Lost), nil, "looked at every 5 s"),
		report.FleetMemory.Row(mib(f.Master.Peak), nil, "without the S3 server"),
		report.FleetCommits.Row(float64(len(f.Commits))/seconds, nil, "%s; %d were not begun because %d were under way", spread(f.Commits), f.Late, cyclesAtOnce),
		report.Info("reports and polls per second", fmt.Sprintf("%.0f", 2*float64(len(f.Reports))/seconds), "a report takes %s", spread(f.Reports)),
		report.Info("CPU seconds per second", fmt.Sprintf("%.2f", f.Master.CPU.Seconds()/seconds), "master; the simulator %.2f", f.Simulator.Seconds()/seconds),
		report.Info("first list of machines after a start", fmt.Sprintf("%.0f ms", ms(f.FirstList)), "asked as soon as the master was ready; all had enrolled in %.0f s", f.Enrolled.Seconds()),
	}
	for _, name := range slices.Sorted(maps.Keys(f.Reads)) {
		rows = append(rows, report.Info("  "+name, fmt.Sprintf("%.0f ms", ms(measure.Percentile(f.Reads[name], 0.99))), "%s", spread(f.Reads[name])))
	}
	for _, what := range slices.Sorted(maps.Keys(f.Errors)) {
		rows = append(rows, report.Info("errors", fmt.Sprint(f.Errors[what]), "%s", what))
	}
	return rows
}

func offerRows(r *offerResult) []report.Row {
	if r == nil {
		return []report.Row{report.FleetOffer.Missing("this part did not run to its end")}
	}
	known, unknown := report.FleetOffer, report.FleetOffer
	known.What, unknown.What = known.What+", known", unknown.What+", unknown"
	return []report.Row{
		known.Row(r.Known, nil, "%d ids in the index, %d at once, load %s at the end", r.Index, offers, r.Load),
		unknown.Row(r.Unknown, nil, "the same"),
		report.Info("the index was filled", fmt.Sprintf("%.0f s", r.Filled.Seconds()), "%.0f ids a second; master's peak memory %.0f MiB, %.2f CPU seconds per second while ids were offered", float64(r.Index)/r.Filled.Seconds(),
			mib(r.Master.Peak), r.Master.CPU.Seconds()/r.For.Seconds()),
	}
}
