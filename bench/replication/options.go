package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	if o.size, err = parseSize(size); err != nil {
		return nil, fmt.Errorf("--size: %w", err)
	}
	if o.huge, err = parseSize(huge); err != nil {
		return nil, fmt.Errorf("--huge: %w", err)
	}
	if o.pairs < 1 || o.pairs > 100 {
		return nil, fmt.Errorf("--pairs %d: want 1 to 100", o.pairs)
	}
	if only != "" {
		o.only = strings.Split(only, ",")
		for _, s := range o.only {
			if !slices.Contains(sections, s) {
				return nil, fmt.Errorf("--only: %q is none of %s", s, strings.Join(sections, ", "))
			}
		}
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return nil, err
	}
	o.cache, err = cacheDir()
	return o, err
}

// cacheDir is scripts/cache-dir's, for whoever does not come through make.
func cacheDir() (string, error) {
	if dir := os.Getenv("OPENMIGRATE_CACHE"); dir != "" {
		return filepath.Join(dir, "bench"), nil
	}
	if os.Getuid() == 0 {
		return "/var/cache/openmigrate/bench", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "openmigrate", "bench"), err
}

// parseSize reads "20GiB"; a number alone is bytes.
func parseSize(s string) (int64, error) {
	digits, shift := s, 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if d, ok := strings.CutSuffix(s, unit); ok {
			digits, shift = d, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 63)
	if err != nil || n <= 0 || n > 1<<50>>shift {
		return 0, fmt.Errorf("%q is no size such as 20GiB, up to 1024TiB", s)
	}
	return n << shift, nil
}
