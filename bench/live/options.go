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
var sections = []string{"freeze", "throughput", "sparse", "rpo", "wire8k"}

// options are the flags. Sizes are in bytes, rates in bytes per second.
type options struct {
	dir, bin, json string
	only           []string
	keep, enforce  bool

	disk, file           int64 // of the file system, and of the file in it that is written to
	buffered             bool
	agent                []string // freeze, rpo, sparse: further flags of the agent
	chunkSize            int      // freeze, rpo: 0: by disk size
	freezeRate, rpoRate  int64
	restpoints           int           // of freeze
	pause                time.Duration // between them
	freezeFor            time.Duration // no more are begun after it
	pairs, writes        int           // of throughput; writes of each half of a pair
	tracked              int64         // size of the disk that they go to
	sparsePairs          int
	large, small, dirty  int64 // of sparse
	rpoFor, rpoInterval  time.Duration
	wireFile             int64 // of wire8k
	wireRounds, wireSize int   // restpoints, and writes between them
}

// wants reports whether a section shall run.
func (o *options) wants(section string) bool {
	return len(o.only) == 0 || slices.Contains(o.only, section)
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("live", flag.ContinueOnError)
	f.SetOutput(stderr)
	var only, agent string
	var quick bool
	f.StringVar(&o.dir, "dir", "", "folder for disks and staging, on a real disk; a new one in it is used, and removed (default: the cache folder)")
	f.StringVar(&o.bin, "bin", "bin", "folder of the programs")
	f.StringVar(&only, "only", "", "run only these, separated by commas: "+strings.Join(sections, ", "))
	f.StringVar(&o.json, "json", "", "write all measurements to this file, too")
	f.BoolVar(&o.keep, "keep", false, "keep the folder")
	f.BoolVar(&o.enforce, "enforce", false, "fail unless every bar is reached")
	f.BoolVar(&quick, "quick", false, "small disks and few rounds, whatever other flags say: shows that it works, not how fast it is")
	f.BoolVar(&o.buffered, "buffered", false, "freeze, rpo: write through the page cache with fdatasync every 100 ms, not past it")
	size := func(to *int64, name, value, usage string) {
		*to, _ = option.Size(value) // a constant
		f.Func(name, usage+" (default "+value+")", func(s string) (err error) {
			*to, err = option.Size(s)
			return err
		})
	}
	size(&o.disk, "disk", "10GiB", "freeze, rpo: size of the ext4 file system")
	size(&o.file, "file", "4GiB", "freeze, rpo: size of the file in it that is written to at random")
	size(&o.freezeRate, "freeze-rate", "20000000", "freeze: bytes written per second")
	size(&o.rpoRate, "rpo-rate", "5000000", "rpo: bytes written per second")
	size(&o.tracked, "tracked", "1GiB", "throughput: size of the disk that is written to")
	size(&o.large, "large", "1TiB", "sparse: size of the large disk")
	size(&o.small, "small", "10GiB", "sparse: size of the small disk")
	size(&o.dirty, "dirty", "256MiB", "sparse: how much is written between two restpoints, in pieces of 1 MiB")
	f.StringVar(&agent, "agent-flags", "", "freeze, rpo, sparse: further flags of the agent, separated by spaces; -v logs what each freeze took it (with --keep)")
	f.IntVar(&o.chunkSize, "chunk-size", 0, "freeze, rpo: bytes, a power of two from 65536 to 4194304; 0: by disk size")
	f.IntVar(&o.restpoints, "restpoints", 20, "freeze: how many are taken")
	f.DurationVar(&o.pause, "pause", time.Second, "freeze: from the end of one to the start of the next")
	f.DurationVar(&o.freezeFor, "freeze-for", 20*time.Minute, "freeze: no restpoint is begun after this time; those that are missing count as failures")
	f.IntVar(&o.pairs, "pairs", 10, "throughput: how many comparisons")
	f.IntVar(&o.writes, "writes", 40000, "throughput: how many writes with and without tracking in each")
	f.IntVar(&o.sparsePairs, "sparse-pairs", 5, "sparse: how many comparisons")
	f.DurationVar(&o.rpoFor, "for", 10*time.Minute, "rpo: how long")
	f.DurationVar(&o.rpoInterval, "interval", time.Second, "rpo: of the agent's schedule")
	size(&o.wireFile, "wire-file", "1GiB", "wire8k: size of the file that is written to")
	f.IntVar(&o.wireRounds, "wire-rounds", 12, "wire8k: how many restpoints")
	f.IntVar(&o.wireSize, "wire-writes", 4096, "wire8k: writes of 8 KiB between two restpoints")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	o.agent = strings.Fields(agent)
	if quick {
		o.disk, o.file, o.large, o.small, o.dirty = 1<<30, 256<<20, 16<<30, 1<<30, 32<<20
		o.restpoints, o.pairs, o.writes, o.sparsePairs, o.rpoFor, o.wireRounds, o.wireSize, o.wireFile, o.tracked = 5, 2, 5000, 2, 20*time.Second, 4, 512, 128<<20, 64<<20
	}
	return o, o.check(only)
}

// check finds what cannot be measured, and makes paths absolute.
func (o *options) check(only string) (err error) {
	for name, n := range map[string]int{"restpoints": o.restpoints, "pairs": o.pairs, "writes": o.writes, "sparse-pairs": o.sparsePairs, "wire-rounds": o.wireRounds, "wire-writes": o.wireSize} {
		if n < 1 || n > 1000000 {
			return fmt.Errorf("--%s %d: want 1 to 1000000", name, n)
		}
	}
	switch {
	case o.file > o.disk/10*8:
		return fmt.Errorf("--file: %s do not fit into a file system of %s", gib(o.file), gib(o.disk))
	case o.dirty < piece || o.dirty > min(o.small, o.large)/4:
		return fmt.Errorf("--dirty: %s are not spread over disks of %s and %s; want at least 1 MiB and at most a quarter", gib(o.dirty), gib(o.small), gib(o.large))
	case o.rpoFor < time.Second || o.rpoInterval < time.Second || o.pause < 0:
		return fmt.Errorf("--for and --interval: want at least 1s; --pause: at least 0")
	}
	if o.only, err = option.Only(only, sections); err != nil {
		return err
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = option.Cache(); err != nil {
			return err
		}
	}
	o.dir, err = filepath.Abs(o.dir)
	return err
}

func gib(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30)) }

func mb(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
