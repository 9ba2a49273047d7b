package hydrator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/openmigrate/openmigrate/hydrator/convert/apart"
	"github.com/openmigrate/openmigrate/hydrator/fuse"
	"github.com/openmigrate/openmigrate/wire"
)

// probeTime is how long trying out may take.
const probeTime = 20 * time.Second

// makeRun makes the folder for what goes with the process, without what a node that was killed left there: mount points, on which nothing is mounted
// any more, and sockets. The data folder is one node's.
func (n *node) makeRun() error {
	if err := errors.Join(os.RemoveAll(n.runDir()), os.RemoveAll(n.shortDir())); err != nil {
		return fmt.Errorf("clean up after the last start: %w", err)
	}
	if err := os.MkdirAll(n.runDir(), 0o700); err != nil {
		return fmt.Errorf("make folder of this run: %w", err)
	}
	if err := n.forgetJournals(); err != nil {
		n.o.Log.Warn("old journals of volumes could not be removed", "error", err)
	}
	return nil
}

func (n *node) removeRun() {
	if err := errors.Join(os.RemoveAll(n.runDir()), os.RemoveAll(n.shortDir())); err != nil {
		n.o.Log.Warn("something was left", "error", err)
	}
}

// kinds are the jobs that this node can do: systems are looked at and converted only where that works, which is found out by doing it.
func (n *node) kinds(ctx context.Context) []string {
	kinds := []string{wire.JobProve, wire.JobVerify, wire.JobHydrate, wire.JobMeasure}
	if err := n.probe(ctx); err != nil {
		n.o.Log.Info("this node does not convert machines", "why", err)
		return kinds
	}
	return append(kinds, wire.JobInspect, wire.JobConvert, wire.JobServe)
}

// probe shows a small disk to another process, which attaches it.
func (n *node) probe(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("it does not run as root")
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	return n.shown([]fuse.Disk{blank{}}, func(disks []apart.Disk) error { return apart.Probe(ctx, disks[0], n.apart(func(wire.Progress) {})) })
}

// blank is a disk of zeros.
type blank struct{}

func (blank) Number() int { return 0 }
func (blank) Size() int64 { return 1 << 20 }
func (b blank) ReadContext(_ context.Context, p []byte, off int64) (int, error) {
	n := min(int64(len(p)), max(0, b.Size()-off))
	clear(p[:n])
	return int(n), nil
}

func (blank) Extent(_ context.Context, _, limit int64) (int64, bool, error) { return limit, true, nil }
