// Package measure takes the times and sizes of processes: wall clock, CPU seconds, peak memory. Everything comes from the kernel's
// own accounting (/proc, rusage), never from what a program says about itself. It works on Linux only.
//
// All of it may be called by any goroutine.
package measure

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// userHZ is the unit of times in /proc/PID/stat: 100 per second on every Linux architecture that Go runs on, whatever the
// kernel's own HZ is.
const userHZ = 100

// Usage is what a process has used since it started.
type Usage struct {
	CPU  time.Duration `json:"cpu"`  // user and system, all threads, children that were not waited for excluded
	Peak int64         `json:"peak"` // highest resident set, in bytes
}

// Stat is the part of /proc/PID/stat that matters here.
type Stat struct {
	Parent int
	CPU    time.Duration
}

// ParseStat reads the content of /proc/PID/stat. The program's name, in parentheses, may hold anything, also parentheses.
func ParseStat(b []byte) (Stat, error) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return Stat{}, errors.New("parse stat: no program name")
	}
	// proc_pid_stat(5) counts from 1; the state, field 3, is the first one here.
	const state, ppid, utime, stime = 3, 4, 14, 15
	f := bytes.Fields(b[end+1:])
	if len(f) <= stime-state {
		return Stat{}, fmt.Errorf("parse stat: %d fields after the name, want more than %d", len(f), stime-state)
	}
	var n [3]uint64
	for i, field := range []int{ppid, utime, stime} {
		v, err := strconv.ParseUint(string(f[field-state]), 10, 63)
		if err != nil {
			return Stat{}, fmt.Errorf("parse stat: field %d: %w", field, err)
		}
		n[i] = v
	}
	return Stat{Parent: int(n[0]), CPU: time.Duration(n[1]+n[2]) * (time.Second / userHZ)}, nil
}

// ParsePeak reads VmHWM, in bytes, from the content of /proc/PID/status.
func ParsePeak(b []byte) (int64, error) {
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte("VmHWM:"))
		if !ok {
			continue
		}
		f := bytes.Fields(rest)
		if len(f) != 2 || string(f[1]) != "kB" {
			return 0, fmt.Errorf("parse status: VmHWM is %.40q, want kB", bytes.TrimSpace(rest))
		}
		kib, err := strconv.ParseInt(string(f[0]), 10, 53)
		if err != nil {
			return 0, fmt.Errorf("parse status: VmHWM: %w", err)
		}
		return kib << 10, nil
	}
	return 0, errors.New("parse status: no VmHWM: the process has ended, or is the kernel's")
}

func readStat(pid int) (Stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(b)
}

// Of measures one running process.
func Of(pid int) (Usage, error) {
	s, err := readStat(pid)
	if err != nil {
		return Usage{}, fmt.Errorf("measure process %d: %w", pid, err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Usage{}, fmt.Errorf("measure process %d: %w", pid, err)
	}
	peak, err := ParsePeak(b)
	if err != nil {
		return Usage{}, fmt.Errorf("measure process %d: %w", pid, err)
	}
	return Usage{CPU: s.CPU, Peak: peak}, nil
}

// Written is how many bytes a running process has passed to write calls, of sockets as well as of files; 0 when that is not known.
func Written(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("wchar: ")); ok {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(v)), 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// OfTree measures a running process and all that it started and that still run; peaks are added up.
func OfTree(pid int) (Usage, error) {
	parents, err := parents()
	if err != nil {
		return Usage{}, err
	}
	var sum Usage
	for _, p := range append([]int{pid}, descendants(pid, parents)...) {
		u, err := Of(p)
		if err != nil {
			if p != pid && errors.Is(err, os.ErrNotExist) {
				continue // it ended meanwhile
			}
			return Usage{}, err
		}
		sum.CPU += u.CPU
		sum.Peak += u.Peak
	}
	return sum, nil
}

// parents maps every process to the one that started it.
func parents() (map[int]int, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	out := make(map[int]int)
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil { // it may end at any moment
			out[pid] = s.Parent
		}
	}
	return out, nil
}

// descendants finds the children of pid, theirs, and so on.
func descendants(pid int, parents map[int]int) []int {
	var out []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		for child, parent := range parents {
			if parent == queue[0] {
				out = append(out, child)
				queue = append(queue, child)
			}
		}
	}
	return out
}
