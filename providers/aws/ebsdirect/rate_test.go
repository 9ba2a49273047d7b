package ebsdirect_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openmigrate/openmigrate/providers/aws/ebsdirect"
)

// TestRate writes blocks to an endpoint whose every answer takes 100 ms, and says how many a second and in how much memory. OPENMIGRATE_BENCH_EBS is the number of
// blocks: some tens of seconds of them for a figure. Without it a second's worth shows that it works at all. The endpoint is a process of its own, which checks every block and
// keeps none, counts, and refuses what is over the quota.
func TestRate(t *testing.T) {
	blocks, full := int64(300), false
	if v := os.Getenv("OPENMIGRATE_BENCH_EBS"); v != "" {
		var err error
		if blocks, err = strconv.ParseInt(v, 10, 32); err != nil {
			t.Fatal(err)
		}
		full = true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRateEndpoint$")
	cmd.Env = append(os.Environ(), "OPENMIGRATE_EBS_ENDPOINT=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stop, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	next := func() string {
		for lines.Scan() {
			if s, ok := strings.CutPrefix(lines.Text(), "endpoint: "); ok {
				return s
			}
		}
		t.Fatal("the endpoint has ended")
		return ""
	}
	c := ebsdirect.New(ebsdirect.NewAPI(config(), next(), 0), nil)
	j := openJournal(t, filepath.Join(t.TempDir(), "j"))
	content := ebsdirect.Content{Machine: "m", Disk: "d", Size: blocks * ebsdirect.BlockSize, ChunkSize: 256 << 10, Root: "r"}
	start := time.Now()
	res, err := c.Copy(t.Context(), j, ebsdirect.CopySpec{Content: content, Token: "t"}, func(ctx context.Context, _ *ebsdirect.Content, from int64, to *ebsdirect.Sink) error {
		for i := from; i < blocks; i++ {
			data, full, err := to.Reserve(ctx, i)
			if err != nil {
				return err
			}
			for k := 0; k < len(data); k += 4096 { // every block is another one
				binary.LittleEndian.PutUint64(data[k:], uint64(i)*0x9e3779b97f4a7c15+uint64(k))
			}
			full()
		}
		return nil
	})
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	_ = stop.Close()
	var seen struct{ Puts, Refused, Busiest int64 }
	if err := json.Unmarshal([]byte(next()), &seen); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	peak := peakMemory(t)
	rate := float64(blocks) / took.Seconds()
	t.Logf("%d blocks in %.2f s: %.0f a second, 100 ms each; at most %d MiB of memory; %d puts, %d refused, %d in the busiest second", blocks, took.Seconds(), rate, peak>>20,
		seen.Puts, seen.Refused, seen.Busiest)
	if res.Blocks != blocks || seen.Puts-seen.Refused != blocks {
		t.Errorf("%+v, the endpoint had %+v", res, seen)
	}
	if full && (rate < 900 || peak > 300<<20) {
		t.Errorf("%.0f blocks a second in %d MiB, want 900 in 300", rate, peak>>20)
	}
}

// peakMemory is the most that was resident of this process, in bytes.
func peakMemory(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if s, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(s)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// TestRateEndpoint is the endpoint's process.
func TestRateEndpoint(t *testing.T) {
	if os.Getenv("OPENMIGRATE_EBS_ENDPOINT") == "" {
		return // it is a part of TestRate
	}
	e := &endpoint{sums: map[int64][32]byte{}}
	s := httptest.NewServer(e)
	fmt.Println("endpoint: " + s.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
	s.Close()
	b, err := json.Marshal(map[string]int64{"Puts": int64(len(e.at)), "Refused": e.refused, "Busiest": busiest(e.at)})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("endpoint: " + string(b))
}

type endpoint struct {
	mu      sync.Mutex
	sums    map[int64][32]byte
	at      []time.Time
	refused int64
	tokens  float64
}

func (e *endpoint) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	start := time.Now()
	answer := func(status int, body string) {
		time.Sleep(100*time.Millisecond - time.Since(start))
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, body)
	}
	switch {
	case r.URL.Path == "/snapshots":
		answer(http.StatusCreated, `{"SnapshotId":"snap-00000000000000001","BlockSize":524288,"Status":"pending"}`)
	case r.Method == http.MethodPut:
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		sum := [32]byte(h.Sum(nil))
		index, ierr := strconv.ParseInt(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:], 10, 32)
		good := err == nil && ierr == nil && n == ebsdirect.BlockSize && r.Header.Get("X-Amz-Checksum") == base64.StdEncoding.EncodeToString(sum[:])
		e.mu.Lock()
		// A bucket of a second's quota, as a service has; it starts with a tenth.
		if len(e.at) == 0 {
			e.tokens = 100
		} else {
			e.tokens = min(1000, e.tokens+1000*start.Sub(e.at[len(e.at)-1]).Seconds())
		}
		e.at = append(e.at, start)
		over := e.tokens < 1
		if over {
			e.refused++
		} else {
			e.tokens--
			e.sums[index] = sum
		}
		e.mu.Unlock()
		switch {
		case !good:
			rw.Header().Set("X-Amzn-Errortype", "ValidationException")
			answer(http.StatusBadRequest, `{"Reason":"INVALID_BLOCK"}`)
		case over:
			rw.Header().Set("X-Amzn-Errortype", "RequestThrottledException")
			answer(http.StatusBadRequest, `{"Reason":"ACCOUNT_THROTTLED"}`)
		default:
			answer(http.StatusCreated, "{}")
		}
	default:
		e.mu.Lock()
		h := sha256.New()
		for i := range int64(len(e.sums)) {
			sum := e.sums[i]
			h.Write(sum[:])
		}
		good := r.Header.Get("X-Amz-Checksum") == base64.StdEncoding.EncodeToString(h.Sum(nil)) && r.Header.Get("X-Amz-Changedblockscount") == strconv.Itoa(len(e.sums))
		e.mu.Unlock()
		if !good {
			rw.Header().Set("X-Amzn-Errortype", "ValidationException")
			answer(http.StatusBadRequest, `{"Reason":"INVALID_PARAMETER_VALUE"}`)
			return
		}
		answer(http.StatusAccepted, `{"Status":"completed"}`)
	}
}

// busiest is the most that came in any second.
func busiest(at []time.Time) (n int64) {
	for i, j := 0, 0; j < len(at); j++ {
		for at[j].Sub(at[i]) >= time.Second {
			i++
		}
		n = max(n, int64(j-i+1))
	}
	return n
}
