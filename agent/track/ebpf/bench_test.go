package ebpf_test

import (
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/agent/track"
	"github.com/openmigrate/openmigrate/agent/track/ebpf"
)

// BenchmarkOverhead writes random 4 KiB blocks past the page cache, in pairs of runs with tracking and without, the order alternating. It
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
	writeRandom(b, d, 20000) // the file behind the disk gets its blocks
	for range b.N {
		var ratios []float64
		for i := range pairs {
			var took [2]time.Duration
			for j := range 2 {
				tracked := (i + j) % 2
				if tracked == 1 {
					tr := openTracker(b, opts)
					if err := tr.Watch(b.Context(), []track.Disk{d}); err != nil {
						b.Fatal(err)
					}
					took[1] = writeRandom(b, d, 40000)
					if err := tr.Close(); err != nil {
						b.Fatal(err)
					}
					if err := ebpf.Remove(opts); err != nil {
						b.Fatal(err)
					}
				} else {
					took[0] = writeRandom(b, d, 40000)
				}
			}
			ratios = append(ratios, took[0].Seconds()/took[1].Seconds())
		}
		sort.Float64s(ratios)
		b.ReportMetric(ratios[len(ratios)/2], "ratio")
		b.ReportMetric(ratios[0], "worst")
	}
}

func writeRandom(b *testing.B, d track.Disk, n int) time.Duration {
	b.Helper()
	fd, err := unix.Open(d.Path, unix.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	buf, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = unix.Munmap(buf) }()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	fill(buf, r)
	began := time.Now()
	for range n {
		if _, err := unix.Pwrite(fd, buf, r.Int64N(d.Size/4096)*4096); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}
