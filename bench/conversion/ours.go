package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/hydrator/convert"
	"github.com/openmigrate/openmigrate/hydrator/convert/apart"
)

// ours has a process of its own convert a disk, as a hydrator does: looking at it, refusing, converting, and all of it on the disk in the end.
func ours(ctx context.Context, disk string) (measure.Run, error) {
	self, err := os.Executable()
	if err != nil {
		return measure.Run{}, err
	}
	cmd, err := measure.Tool(ctx, self, convertArg, disk)
	if err != nil {
		return measure.Run{}, err
	}
	run, _, err := measure.Command(cmd)
	return run, err
}

// convertChild is that process. It prints the report.
func convertChild(ctx context.Context, disk string) (err error) {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, report, err := apart.Convert(ctx, []apart.Disk{{File: f}}, convert.Target{Platform: convert.KVM}, nil)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}
