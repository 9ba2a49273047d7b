// Command conversion makes the disk of a server start on another hypervisor, by this project and by virt-v2v-in-place, and starts both results. It prints one
// table: how long each took, and how far each machine came by its console.
//
//	go run ./bench/conversion [--pairs N] [--json FILE]
//
// The disk is a Debian 12 that was tuned to the controller that it has. Each gets a copy of it, one after the other, in changing order, and neither has KVM: what it would
// save virt-v2v, which starts a machine to convert one, is not measured. It needs root (mounts, loop devices, chroot), QEMU, mmdebstrap, and Debian's mirror when the cache has nothing. Linux only.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/openmigrate/openmigrate/bench/program"
	"github.com/openmigrate/openmigrate/bench/report"
)

// convertArg makes this program its own child.
const convertArg = "convert"

func main() { program.Main("conversion", run) }

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == convertArg {
		return convertChild(ctx, args[1])
	}
	o, err := parseOptions(args, os.Stderr)
	if err != nil {
		return err
	}
	b, err := newBench(o)
	if err != nil {
		return err
	}
	res, err := b.run(ctx)
	if err := errors.Join(err, b.Close()); err != nil || o.prepare {
		return err
	}
	d := report.Document{Heading: []string{res.Machine.String(), res.describe()}, Rows: table(res), Results: res}
	return d.Show(os.Stdout, o.json, o.enforce)
}
