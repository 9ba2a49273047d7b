package measure

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

const stat = "4711 (a (nasty) ) name) S 12 4711 4711 0 -1 4194560 1200 0 0 0 250 75 3 4 20 0 9 0 123456 1352164352 26467 18446744073709551615\n"

func TestParseStat(t *testing.T) {
	s, err := ParseStat([]byte(stat))
	if want := (Stat{Parent: 12, CPU: 3250 * time.Millisecond}); err != nil || s != want {
		t.Errorf("ParseStat = %+v, %v; want %+v", s, err, want)
	}
	for name, bad := range map[string]string{
		"empty": "", "no name": "1 2 3", "short": "1 (x) S 1 2 3", "no number": strings.Replace(stat, "250", "abc", 1), "negative": strings.Replace(stat, "250", "-1", 1),
	} {
		if s, err := ParseStat([]byte(bad)); err == nil {
			t.Errorf("%s: %+v, want an error", name, s)
		}
	}
}

func TestParsePeak(t *testing.T) {
	status := "Name:\tagent\nVmPeak:\t 999999 kB\nVmHWM:\t  105868 kB\nVmRSS:\t 100000 kB\n"
	if n, err := ParsePeak([]byte(status)); err != nil || n != 105868<<10 {
		t.Errorf("ParsePeak = %d, %v; want %d", n, err, 105868<<10)
	}
	for _, bad := range []string{"", "VmRSS: 1 kB\n", "VmHWM: 1 MB\n", "VmHWM: x kB\n", "VmHWM:\n"} {
		if n, err := ParsePeak([]byte(bad)); err == nil {
			t.Errorf("%q: %d, want an error", bad, n)
		}
	}
}

func TestOfThisProcess(t *testing.T) {
	before, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	b := make([]byte, size)
	x := byte(0)
	for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
		for i := range b {
			b[i] += x
			x++
		}
	}
	after, err := OfTree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if cpu := after.CPU - before.CPU; cpu < 20*time.Millisecond || cpu > 10*time.Second {
		t.Errorf("100 ms of work counted as %v of CPU", cpu)
	}
	if after.Peak < size {
		t.Errorf("peak is %d with %d bytes in use", after.Peak, len(b))
	}
	if _, err := Of(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a process that is not: %v", err)
	}
}

func TestDescendants(t *testing.T) {
	got := descendants(1, map[int]int{2: 1, 3: 2, 4: 3, 5: 9, 6: 1})
	slices.Sort(got)
	if want := []int{2, 3, 4, 6}; !slices.Equal(got, want) {
		t.Errorf("descendants = %v, want %v", got, want)
	}
}

func TestCommand(t *testing.T) {
	run, out, err := Command(exec.Command("sh", "-c", "echo out; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"))
	if err != nil || string(out) != "out\n" {
		t.Fatalf("%q, %v", out, err)
	}
	if run.Wall <= 0 || run.CPU <= 0 || run.Peak < 100<<10 {
		t.Errorf("run measured as %+v", run)
	}
	if _, _, err := Command(exec.Command("sh", "-c", "echo reason >&2; exit 3")); err == nil || !strings.Contains(err.Error(), "reason") {
		t.Errorf("a failure does not say why: %v", err)
	}
	if _, err := Tool(t.Context(), "no-such-program-here"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a missing program: %v", err)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 100}, 3}} {
		if got := Median(c.in); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
	if got := Median([]time.Duration{3, 1, 2}); got != 2 {
		t.Errorf("Median of durations = %v", got)
	}
}

func TestMachine(t *testing.T) {
	cpuinfo := []byte("processor\t: 0\nmodel name\t: Some   CPU @ 2 GHz\nflags\t\t: a sha_ni b\n\nprocessor\t: 1\nmodel name\t: Other\n")
	if got := CPUField(cpuinfo, "model name"); got != "Some CPU @ 2 GHz" {
		t.Errorf("model name = %q", got)
	}
	if got := MemField([]byte("MemTotal:  1024 kB\nMemAvailable: 512 kB\n"), "MemAvailable"); got != 512<<10 {
		t.Errorf("MemAvailable = %d", got)
	}
	if n, err := Available(); err != nil || n <= 0 {
		t.Errorf("Available = %d, %v", n, err)
	}
	m := ThisMachine(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	if m.Cores < 1 || m.Kernel == "" || m.Memory <= 0 || !strings.Contains(m.String(), "2026-01-02 03:04 UTC") {
		t.Errorf("this machine is %q", m)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[99-i] = float64(i + 1)
	}
	for _, c := range []struct {
		in          []float64
		share, want float64
	}{
		{nil, 0.5, 0}, {[]float64{7}, 0.99, 7}, {hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 0.991, 100}, {hundred, 1, 100}, {hundred, 0, 1},
		{[]float64{1, 2, 3, 4}, 0.9, 4}, {[]float64{4, 3, 2, 1}, 0.25, 1}, {[]float64{1, 2}, 2, 2},
	} {
		if got := Percentile(c.in, c.share); got != c.want {
			t.Errorf("Percentile(%d values, %v) = %v, want %v", len(c.in), c.share, got, c.want)
		}
	}
	if hundred[0] != 100 {
		t.Error("the values were moved")
	}
}

func TestAlternately(t *testing.T) {
	for round, want := range []string{"ab", "ba", "ab"} {
		got := ""
		add := func(s string) func() error { return func() error { got += s; return nil } }
		if err := Alternately(round, add("a"), add("b")); err != nil || got != want {
			t.Errorf("round %d runs %s, %v; want %s", round, got, err, want)
		}
	}
}
