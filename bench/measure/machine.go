package measure

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is where a run took place.
type Machine struct {
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"` // that this process may use
	Memory int64     `json:"memory"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	Load   string    `json:"load"` // average of the minute before: what else the machine was doing
	Date   time.Time `json:"date"`
}

// ThisMachine describes the machine at now.
func ThisMachine(now time.Time) Machine {
	m := Machine{CPU: "unknown CPU", Cores: runtime.NumCPU(), Go: runtime.Version(), Date: now.UTC().Truncate(time.Second)}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if name := CPUField(b, "model name"); name != "" {
			m.CPU = name
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.Memory = MemField(b, "MemTotal")
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(b), " ")
	}
	return m
}

// String is the machine on one line.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %.0f GiB, Linux %s, %s, %s, load before %s",
		m.CPU, m.Cores, float64(m.Memory)/(1<<30), m.Kernel, m.Go, m.Date.Format("2006-01-02 15:04 MST"), m.Load)
}

// CPUField returns the first value of a field of /proc/cpuinfo, or "".
func CPUField(cpuinfo []byte, name string) string {
	for s := bufio.NewScanner(bytes.NewReader(cpuinfo)); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return ""
}

// MemField returns a field of /proc/meminfo in bytes, or 0.
func MemField(meminfo []byte, name string) int64 {
	f := strings.Fields(CPUField(meminfo, name))
	if len(f) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(f[0], 10, 53)
	if err != nil {
		return 0
	}
	return kib << 10
}

// Available is how much memory, in bytes, can be had without swapping, page cache that can be dropped included.
func Available() (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	return MemField(b, "MemAvailable"), nil
}
