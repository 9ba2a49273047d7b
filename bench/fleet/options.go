package main

import (
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/openmigrate/openmigrate/bench/option"
)

// sections of the benchmark, in the order in which they run.
var sections = []string{"fleet", "offer"}

type options struct {
	dir, bin, json string
	only           []string
	keep, enforce  bool

	agents  int
	every   time.Duration // from report to report of an agent
	commits float64       // a second
	fresh   float64       // share of them that send something new; the others find their disk as it was
	reads   float64       // of the API, a second
	warmUp  time.Duration // after enrolment, before anything counts
	span    time.Duration // that is measured

	index     int // ids
	offerSpan time.Duration
}

func (o *options) wants(section string) bool {
	return len(o.only) == 0 || slices.Contains(o.only, section)
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("fleet", flag.ContinueOnError)
	f.SetOutput(stderr)
	var only string
	var quick bool
	f.StringVar(&o.dir, "dir", "", "folder for the master's data, on a real disk; a new one in it is used, and removed (default: the cache folder)")
	f.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	f.StringVar(&only, "only", "", "run only these, separated by commas: "+strings.Join(sections, ", "))
	f.StringVar(&o.json, "json", "", "write all measurements to this file, too")
	f.BoolVar(&o.keep, "keep", false, "keep the folder")
	f.BoolVar(&o.enforce, "enforce", false, "fail unless every bar is reached")
	f.BoolVar(&quick, "quick", false, "a small fleet and index for a short time, whatever other flags say: shows that it works, not how fast it is")
	f.IntVar(&o.agents, "agents", 10_000, "fleet: agents")
	f.DurationVar(&o.every, "every", 10*time.Second, "fleet: how often each reports and asks")
	f.Float64Var(&o.commits, "commits", 100, "fleet: restpoints a second")
	f.Float64Var(&o.fresh, "fresh", 0.1, "fleet: share of the restpoints with a changed chunk, which is put into staging; the others are of disks that did not change")
	f.Float64Var(&o.reads, "reads", 20, "fleet: reads of the API a second")
	f.DurationVar(&o.warmUp, "warm-up", 20*time.Second, "fleet: time under load before anything counts")
	f.DurationVar(&o.span, "for", 2*time.Minute, "fleet: time that is measured")
	f.IntVar(&o.index, "index", 10_000_000, "offer: ids in the index")
	f.DurationVar(&o.offerSpan, "offer-for", 20*time.Second, "offer: time for known and for unknown ids each")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	if quick {
		o.agents, o.every, o.commits, o.fresh, o.reads, o.warmUp, o.span, o.index, o.offerSpan = 50, time.Second, 5, 0.5, 5, 2*time.Second, 5*time.Second, 20_000, time.Second
	}
	switch {
	case o.agents < 1 || o.agents > 50_000 || o.index < 1 || o.index > 1<<30:
		return nil, fmt.Errorf("--agents: want 1 to 50000; --index: 1 to %d", 1<<30)
	case o.every < 100*time.Millisecond || o.span < time.Second || o.offerSpan < time.Second || o.warmUp < 0:
		return nil, fmt.Errorf("--every: want at least 100ms; --for and --offer-for: at least 1s")
	case o.commits <= 0 || o.reads <= 0 || o.fresh < 0 || o.fresh > 1:
		return nil, fmt.Errorf("--commits and --reads: want more than 0; --fresh: 0 to 1")
	}
	var err error
	if o.only, err = option.Only(only, sections); err != nil {
		return nil, err
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return nil, err
	}
	if o.dir == "" {
		if o.dir, err = option.Cache(); err != nil {
			return nil, err
		}
	}
	o.dir, err = filepath.Abs(o.dir)
	return o, err
}
