// Command fleet measures the master under a fleet that it cannot tell from a real one: the real program over real TLS, and agents simulated in this process, each with an identity
// and a connection of its own, that enrol, wait for assignments, report, offer ids and commit restpoints. Meanwhile people read the API. Then it offers ids
// to an index of millions. It prints one table.
//
//	go run ./bench/fleet [--quick] [--only fleet,offer] [--dir DIR] [--json FILE]
//
// It needs the programs of `make build` and two descriptors for each agent (ulimit -n). Simulator, master and S3 server share the machine. Linux only.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/openmigrate/openmigrate/bench/program"
	"github.com/openmigrate/openmigrate/bench/report"
)

func main() { program.Main("fleet", run) }

// run shows what was measured even when a section failed.
func run(ctx context.Context, args []string) error {
	o, err := parseOptions(args, os.Stderr)
	if err != nil {
		return err
	}
	b, err := newBench(o)
	if err != nil {
		return err
	}
	res, failed := b.run(ctx)
	failed = errors.Join(failed, b.Close())
	if ctx.Err() != nil {
		return failed
	}
	d := report.Document{Heading: []string{res.Machine.String()}, Rows: table(o, res), Results: res}
	return errors.Join(failed, d.Show(os.Stdout, o.json, o.enforce))
}
