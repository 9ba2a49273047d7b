package builtin_test

import (
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/staging"
)

// cpuSeconds is what process pid used so far, in user and system mode.
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0.0
	for _, f := range fields[11:13] { // utime and stime of proc(5), 100 a second
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}

// BenchmarkSignedPut sends 4 packs of 32 MiB at once over TLS and reports the server's CPU seconds for each GB.
func BenchmarkSignedPut(b *testing.B) {
	const size, parallel = 32 << 20, 4
	srv, store := start(b)
	u, err := url.Parse(srv.S3.Endpoint)
	if err != nil {
		b.Fatal(err)
	}
	client, err := staging.NewSignedClient([]string{u.Host}, srv.S3.CA)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	body := make([]byte, size)
	sum := staging.Checksum(body)
	b.SetBytes(size * parallel)
	before := cpuSeconds(b, srv.PID())
	n := 0
	for b.Loop() {
		var wg sync.WaitGroup
		for i := range parallel {
			name := fmt.Sprintf("pack/%d/%d", n, i)
			wg.Go(func() {
				s, err := store.SignPut(b.Context(), name, staging.SignPut{Size: size, CRC32C: sum, Valid: time.Minute})
				if err == nil {
					err = client.Put(b.Context(), s, body, nil)
				}
				if err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		n++
	}
	b.ReportMetric((cpuSeconds(b, srv.PID())-before)/(float64(n)*size*parallel/1e9), "server-cpu-s/GB")
}

// BenchmarkSmallPut sends objects of 256 KiB from 4 writers, whose names lie as deep as those of packs.
func BenchmarkSmallPut(b *testing.B) {
	const size, writers = 256 << 10, 4
	_, store := start(b)
	body := make([]byte, size)
	var n atomic.Int64
	b.SetBytes(size)
	b.SetParallelism((writers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			if err := store.Put(b.Context(), fmt.Sprintf("v1/project/packs/%02x/%d", i%16, i), body, nil); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
}
