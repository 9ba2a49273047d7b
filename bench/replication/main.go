// Command replication measures first and second replication, restore, memory and requests of the real programs on a real
// file system's disk, side by side with other programs and with the machine's limit, and prints one table.
//
//	go run ./bench/replication [--quick] [--pairs N] [--only first,peers,…] [--json FILE]
//
// Every pair of things that are compared runs after one another, several times, in changing order; medians of the ratios are
// shown. Before each run dirty pages are written out and the disk is read into the page cache. It needs the programs of
// `make build`, mke2fs and debugfs, and for its peers restic and borg; not root. Linux only.
package main

import (
	"context"
	"io"
	"os"

	"github.com/openmigrate/openmigrate/bench/program"
	"github.com/openmigrate/openmigrate/bench/report"
	"github.com/openmigrate/openmigrate/staging/builtin"
)

// Arguments that make this program its own child.
const (
	limitArg   = "limit"
	stagingArg = "serve-staging"
)

func main() { program.Main("replication", run) }

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case limitArg:
			return limitChild(ctx, args[1:], os.Stdout)
		case stagingArg:
			return builtin.ServeFrom(ctx, os.Stdin)
		}
	}
	o, err := parseOptions(args, os.Stderr)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	res, err := b.run(ctx)
	if cerr := b.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return show(o, res, os.Stdout)
}

func show(o *options, res *results, w io.Writer) error {
	d := report.Document{Heading: []string{res.Machine.String(), res.describe()}, Rows: table(res), Results: res}
	return d.Show(w, o.json, o.enforce)
}
