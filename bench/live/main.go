// Command live measures replication of a server that is written to, with the real programs on loop devices: how long writers are frozen,
// what tracking costs them, what a huge sparse disk costs, how old the newest restpoint gets, and what scattered writes cost on the wire.
// It prints one table.
//
//	go run ./bench/live [--quick] [--only freeze,throughput,sparse,rpo,wire8k] [--dir DIR] [--json FILE]
//
// It needs root (loop devices, mounts, eBPF), the programs of `make build`, mkfs.ext4, and space for the disks and for what is replicated:
// it stops when little is left. Writers, agent, master and S3 server share the machine, as they hardly would in earnest. Linux only.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/openmigrate/openmigrate/bench/program"
	"github.com/openmigrate/openmigrate/bench/report"
)

func main() { program.Main("live", run) }

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
	d := report.Document{Heading: []string{res.Machine.String(), res.describe(o)}, Rows: table(o, res), Results: res}
	return errors.Join(failed, d.Show(os.Stdout, o.json, o.enforce))
}
