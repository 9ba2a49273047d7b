package main

import (
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openmigrate/openmigrate/bench/option"
)

// sections of the benchmark, in the order in which they run.
var sections = []string{"first", "restore", "second", "peers", "requests", "huge"}

// options are the flags.
type options struct {
	size, huge         int64 // bytes
	source, work, json string
	bin, cache         string
	pairs              int
	only               []string
	keep, enforce      bool
}

// wants reports whether a section shall run. Restores and second restpoints need a first one.
func (o *options) wants(section string) bool {
	if section == "first" && (slices.Contains(o.only, "restore") || slices.Contains(o.only, "second") || slices.Contains(o.only, "peers")) {
		return true
	}
	return len(o.only) == 0 || slices.Contains(o.only, section)
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("replication", flag.ContinueOnError)
	f.SetOutput(stderr)
	var size, huge, only string
	var quick bool
	f.StringVar(&size, "size", "20GiB", "size of the disk")
	f.StringVar(&huge, "huge", "1TiB", "size of the sparse disk with little data")
	f.StringVar(&o.source, "source-dir", "/usr", "folder whose files are on the disk, or a share of them if they are too many")
	f.IntVar(&o.pairs, "pairs", 3, "how often each comparison is repeated")
	f.StringVar(&o.work, "work", "", "folder for disks and repositories, on a real disk (default: a new one in the cache folder)")
	f.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	f.StringVar(&only, "only", "", "run only these, separated by commas: "+strings.Join(sections, ", "))
	f.StringVar(&o.json, "json", "", "write all measurements to this file, too")
	f.BoolVar(&o.keep, "keep", false, "keep the work folder")
	f.BoolVar(&o.enforce, "enforce", false, "fail unless every bar is reached")
	f.BoolVar(&quick, "quick", false, "1 GiB and one pair: shows that it works, not how fast it is")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	if quick {
		size, o.pairs = "1GiB", 1
	}
	var err error
	if o.size, err = option.Size(size); err != nil {
		return nil, fmt.Errorf("--size: %w", err)
	}
	if o.huge, err = option.Size(huge); err != nil {
		return nil, fmt.Errorf("--huge: %w", err)
	}
	if o.pairs < 1 || o.pairs > 100 {
		return nil, fmt.Errorf("--pairs %d: want 1 to 100", o.pairs)
	}
	if o.only, err = option.Only(only, sections); err != nil {
		return nil, err
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return nil, err
	}
	o.cache, err = option.Cache()
	return o, err
}
