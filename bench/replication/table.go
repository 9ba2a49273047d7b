package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/peers"
	"github.com/openmigrate/openmigrate/bench/report"
)

const notRun = "this part did not run"

// table compares everything that was measured with its bar.
func table(r *results) []report.Row {
	firsts := r.with(func(p *pair) bool { return p.First != nil && p.Limit != nil })
	rows := []report.Row{
		compare(report.FirstWall, firsts, func(p *pair) float64 { return ratio(p.Limit.Wall, p.First.Wall) }, func() string {
			return fmt.Sprintf("limit %s, ours %s; the limit got %.2f of %d cores", seconds(firsts, limitWall), seconds(firsts, firstWall), cores(firsts), r.Machine.Cores)
		}),
		compare(report.FirstCPU, firsts, func(p *pair) float64 { return ratio(p.Limit.CPU, p.First.Agent.CPU) }, func() string {
			return fmt.Sprintf("limit %s, agent %s", seconds(firsts, func(p *pair) time.Duration { return p.Limit.CPU }), seconds(firsts, agentCPU))
		}),
	}
	rows = append(rows, r.peerRows()...)
	again := r.with(func(p *pair) bool { return p.Second != nil })
	rows = append(rows, compare(report.Second, again, func(p *pair) float64 { return ratio(p.Second.cat(), p.Second.Cycle.Wall) }, func() string {
		return fmt.Sprintf("cat %s, ours %s", seconds(again, func(p *pair) time.Duration { return p.Second.cat() }),
			seconds(again, func(p *pair) time.Duration { return p.Second.Cycle.Wall }))
	}))
	restores := r.with(func(p *pair) bool { return p.Restore != nil })
	exported := func(p *pair) time.Duration { return p.Restore.Export.Wall }
	rows = append(rows, compare(report.Restore, restores, func(p *pair) float64 { return ratio(p.Restore.Limit.Wall, p.Restore.Export.Wall) }, func() string {
		return fmt.Sprintf("limit %s, ours %s, both durable at the end; equal to the disk", seconds(restores, func(p *pair) time.Duration { return p.Restore.Limit.Wall }), seconds(restores, exported))
	}))
	return append(append(rows, r.sizeRows(firsts)...), r.infoRows(firsts, restores)...)
}

// cores is how many the limit had: fewer than the machine has when others used it, too, and then no ratio means much.
func cores(pairs []*pair) float64 {
	var values []float64
	for _, p := range pairs {
		values = append(values, ratio(p.Limit.CPU, p.Limit.Wall))
	}
	return measure.Median(values)
}

func limitWall(p *pair) time.Duration { return p.Limit.Wall }
func firstWall(p *pair) time.Duration { return p.First.Wall }
func agentCPU(p *pair) time.Duration  { return p.First.Agent.CPU }

// with is the pairs in which something was measured.
func (r *results) with(was func(*pair) bool) []*pair {
	var list []*pair
	for _, p := range r.Pairs {
		if was(p) {
			list = append(list, p)
		}
	}
	return list
}

// compare is a row of the median of a ratio.
func compare(bar report.Bar, pairs []*pair, of func(*pair) float64, detail func() string) report.Row {
	if len(pairs) == 0 {
		return bar.Missing(notRun)
	}
	var values []float64
	for _, p := range pairs {
		values = append(values, of(p))
	}
	return bar.Row(measure.Median(values), values, "%s", detail())
}

func ratio(a, b time.Duration) float64 {
	if b <= 0 {
		return 0
	}
	return a.Seconds() / b.Seconds()
}

// seconds is the median of a time.
func seconds(pairs []*pair, of func(*pair) time.Duration) string {
	var values []time.Duration
	for _, p := range pairs {
		values = append(values, of(p))
	}
	return fmt.Sprintf("%.2f s", measure.Median(values).Seconds())
}

// peerRows compares with the other programs.
func (r *results) peerRows() []report.Row {
	has := func(name string) func(*pair) bool {
		return func(p *pair) bool { _, ok := p.Peers[name]; return ok && p.First != nil }
	}
	both := r.with(func(p *pair) bool { return has("restic")(p) && has("borg")(p) })
	wall := func(name string) func(*pair) time.Duration {
		return func(p *pair) time.Duration { return p.Peers[name].Wall }
	}
	faster := func(p *pair) float64 {
		return ratio(min(p.Peers["restic"].Wall, p.Peers["borg"].Wall), p.First.Wall)
	}
	restic := r.with(has("restic"))
	return []report.Row{
		compare(report.PeerWall, both, faster, func() string {
			return fmt.Sprintf("restic %s, borg %s, ours %s", seconds(both, wall("restic")), seconds(both, wall("borg")), seconds(both, firstWall))
		}),
		compare(report.PeerCPU, restic, func(p *pair) float64 { return ratio(p.First.Agent.CPU, p.Peers["restic"].CPU) }, func() string {
			return fmt.Sprintf("restic %s, agent %s", seconds(restic, func(p *pair) time.Duration { return p.Peers["restic"].CPU }), seconds(restic, agentCPU))
		}),
	}
}

// sizeRows are memory and requests.
func (r *results) sizeRows(firsts []*pair) []report.Row {
	peak, hugePeak := report.Peak.Missing(notRun), report.PeakHuge.Missing(notRun)
	puts, unchanged := report.Puts.Missing(notRun), report.Unchanged.Missing(notRun)
	if len(firsts) > 0 {
		var most int64
		for _, p := range firsts {
			most = max(most, p.First.Agent.Peak)
			if p.Second != nil {
				most = max(most, p.Second.Cycle.Agent.Peak)
			}
		}
		peak = report.Peak.Row(float64(most)/(1<<20), nil, "the highest of all pairs, %s disk", gib(r.Size))
	}
	if c := r.Requests; c != nil && c.Stored > 0 {
		n := c.Requests[http.MethodPut]
		puts = report.Puts.Row(float64(n)/float64(c.Stored)*(1<<40), nil, "%d PUTs for %s stored in %d packs; all requests: %v", n, gib(c.Stored), c.Packs, c.Requests)
	}
	if h := r.Huge; h != nil {
		hugePeak = report.PeakHuge.Row(float64(max(h.First.Agent.Peak, h.Unchanged.Agent.Peak))/(1<<20), nil, "%s disk with %s of data", gib(h.Size), gib(h.Data))
		unchanged = report.Unchanged.Row(float64(h.Requests.Sum()), nil, "%v; %.2f s", h.Requests, h.Unchanged.Wall.Seconds())
	}
	return []report.Row{peak, hugePeak, puts, unchanged}
}

// infoRows have no bars, and help to understand the others.
func (r *results) infoRows(firsts, restores []*pair) []report.Row {
	var rows []report.Row
	if len(firsts) > 0 {
		p := firsts[0]
		speed := float64(p.First.Restpoint.Stats.Sent) / (1 << 20)
		rows = append(rows,
			report.Info("limit that only reads, zero-tests and hashes", seconds(firsts, func(p *pair) time.Duration { return p.Scan.Wall }), "%s of it not zero and different", gib(p.Scan.Unique)),
			report.Info("server's CPU seconds of the first replication", seconds(firsts, func(p *pair) time.Duration { return p.First.Server.CPU }), "master and S3 server, on the same cores"),
			report.Info("first replication, chunks per second", fmt.Sprintf("%.0f MiB", speed/p.First.Wall.Seconds()), "%s of chunks stored as %s; the limit's: %s", gib(p.First.Restpoint.Stats.Sent), gib(p.First.Restpoint.Stats.Stored), gib(p.Limit.Stored)))
	}
	for _, name := range peerNames {
		has := r.with(func(p *pair) bool { _, ok := p.Peers[name]; return ok })
		if len(has) > 0 {
			get := func(p *pair) peers.Result { return p.Peers[name] }
			rows = append(rows, report.Info(name, seconds(has, func(p *pair) time.Duration { return get(p).Wall }), "CPU %s, stored %s",
				seconds(has, func(p *pair) time.Duration { return get(p).CPU }), gib(get(has[0]).Stored)))
		}
	}
	if len(restores) > 0 {
		rows = append(rows, report.Info("limit of restore whose file is not durable at the end", seconds(restores, func(p *pair) time.Duration { return p.Restore.Fast.Wall }),
			"CPU %s; durable: CPU %s, ours: CPU %s", seconds(restores, func(p *pair) time.Duration { return p.Restore.Fast.CPU }),
			seconds(restores, func(p *pair) time.Duration { return p.Restore.Limit.CPU }), seconds(restores, func(p *pair) time.Duration { return p.Restore.Export.CPU })))
	}
	return rows
}
