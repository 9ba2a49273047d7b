package main

import (
	"flag"
	"fmt"
	"io"

	"github.com/openmigrate/openmigrate/bench/option"
)

// options are the flags.
type options struct {
	cache, work, json string
	pairs             int
	keep, enforce     bool
	prepare           bool // measure nothing
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("conversion", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.pairs, "pairs", 1, "how often the comparison is repeated")
	f.BoolVar(&o.prepare, "prepare", false, "only make what is kept in the cache, the server's disk and a Debian with virt-v2v; measure nothing")
	f.StringVar(&o.work, "work", "", "folder for copies of the disk, on a real disk (default: a new one in the cache folder)")
	f.StringVar(&o.json, "json", "", "write all measurements to this file, too")
	f.BoolVar(&o.keep, "keep", false, "keep the work folder: the disks and consoles")
	f.BoolVar(&o.enforce, "enforce", false, "fail unless every bar is reached")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	if o.pairs < 1 || o.pairs > 20 {
		return nil, fmt.Errorf("--pairs %d: want 1 to 20", o.pairs)
	}
	var err error
	o.cache, err = option.Cache()
	return o, err
}
