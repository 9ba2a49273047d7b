package ebpf_test

import (
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/openmigrate/openmigrate/bench/measure"
	"github.com/openmigrate/openmigrate/bench/overhead"
)

// BenchmarkOverhead writes random 4 KiB blocks past the page cache, in pairs of runs with tracking and without. It
// reports the median of the pairs' ratios of throughput: the bar is 0.97. OPENMIGRATE_PAIRS (10) is how many; run it with -benchtime 1x.
func BenchmarkOverhead(b *testing.B) {
	pairs := 10
	if s := os.Getenv("OPENMIGRATE_PAIRS"); s != "" {
		var err error
		if pairs, err = strconv.Atoi(s); err != nil || pairs < 1 {
			b.Fatalf("OPENMIGRATE_PAIRS is %q", s)
		}
	}
	d, opts := loop(b, 1<<30), instance(b)
	if err := overhead.Prepare(b.Context(), d); err != nil {
		b.Fatal(err)
	}
	for range b.N {
		var ratios []float64
		for i := range pairs {
			p, err := overhead.Measure(b.Context(), d, opts, 40000*overhead.Block, i)
			if err != nil {
				b.Fatal(err)
			}
			ratios = append(ratios, p.Ratio())
		}
		b.ReportMetric(measure.Median(ratios), "ratio")
		b.ReportMetric(slices.Min(ratios), "worst")
	}
}
