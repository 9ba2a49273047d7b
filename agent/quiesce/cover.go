package quiesce

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/openmigrate/openmigrate/agent/track"
)

// Cover says of the parts of a disk who writes to them: file systems that are to be frozen, or something else as well, as a virtual machine or
// a database on a device of its own.
type Cover struct{ parts []part }

// part is a partition, a disk without any, or what lies between partitions.
type part struct {
	name       string
	start, end int64 // bytes
	user       user
}

type user int

const (
	frozen user = iota // nothing but file systems that are to be frozen, and swap, whose content nobody asks for later
	mixed              // it holds up other devices, some of which are something else; or it is between partitions
	raw                // it is in nobody's hands that is known here
	synced             // a file system that is synced, and cannot be frozen
)

// Covers looks at disks, by path, on which mounts are to be frozen.
func Covers(disks []string, mounts []Mount) (map[string]*Cover, error) {
	return host{sys: "/sys", proc: "/proc"}.covers(disks, mounts)
}

// Unfrozen says where marks are that no frozen file system accounts for; "" is nowhere. sure: that is on a partition or disk which nothing holds but
// who wrote there. unsynced is a file system with marks that can only be synced.
func (c *Cover) Unfrozen(written *track.Marks) (where string, sure bool, unsynced string) {
	for off := int64(0); ; {
		start, end, err := written.Next(off)
		if err != nil { // io.EOF
			return where, sure, unsynced
		}
		off = end
		for _, p := range c.parts {
			from, to := max(start, p.start), min(end, p.end)
			if p.user == frozen || from >= to {
				continue
			}
			switch {
			case p.user == synced:
				unsynced = p.name
			case sure:
			default:
				// A mark at the edge may be the neighbour's.
				where, sure = p.name, p.user == raw && to-from >= written.Grain()
			}
		}
	}
}

func (h host) covers(disks []string, mounts []Mount) (map[string]*Cover, error) {
	all, err := h.mounts()
	if err != nil {
		return nil, fmt.Errorf("find who writes to disks: %w", err)
	}
	points := map[string]user{}
	for _, m := range mounts {
		points[m.Point] = frozen
		if m.Synced {
			points[m.Point] = synced
		}
	}
	held := map[string]user{}
	for _, m := range all {
		by, ok := points[m.open]
		if !ok {
			continue
		}
		for _, d := range m.devices {
			held[d] = by
		}
	}
	for _, d := range h.swaps() {
		held[d] = frozen
	}
	out := map[string]*Cover{}
	for _, path := range disks {
		c, err := h.cover(path, held)
		if err != nil {
			return nil, fmt.Errorf("find who writes to %s: %w", path, err)
		}
		out[path] = c
	}
	return out, nil
}

// swaps are the devices that are swapped to.
func (h host) swaps() (devices []string) {
	b, _ := os.ReadFile(filepath.Join(h.proc, "swaps")) // a kernel without swap
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "partition" {
			if n, err := number(f[0]); err == nil {
				devices = append(devices, n)
			}
		}
	}
	return devices
}

const sector = 512 // of sysfs

// cover looks at one disk. held are the devices of what is frozen or synced.
func (h host) cover(path string, held map[string]user) (*Cover, error) {
	n, err := number(path)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(h.sys, "dev/block", n))
	if err != nil {
		return nil, err
	}
	size, err := readSectors(filepath.Join(dir, "size"))
	if err != nil {
		return nil, err
	}
	whole := part{name: filepath.Base(dir), end: size, user: h.user(n, held, 0)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	c := new(Cover)
	for _, e := range entries {
		sub := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(sub, "partition")); err != nil {
			continue
		}
		start, err1 := readSectors(filepath.Join(sub, "start"))
		length, err2 := readSectors(filepath.Join(sub, "size"))
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		c.parts = append(c.parts, part{e.Name(), start, start + length, h.user(readLine(filepath.Join(sub, "dev")), held, 0)})
	}
	if len(c.parts) > 0 && whole.user == raw {
		c.parts = append(c.parts, between(c.parts, whole)...)
	} else {
		c.parts = []part{whole}
	}
	return c, nil
}

// between are the gaps between partitions.
func between(parts []part, whole part) (gaps []part) {
	for at := int64(0); at < whole.end; {
		next, end := whole.end, int64(-1)
		for _, p := range parts {
			if p.start <= at && p.end > at {
				end = max(end, p.end)
			} else if p.start > at {
				next = min(next, p.start)
			}
		}
		if end < 0 {
			gaps = append(gaps, part{whole.name + " outside of its partitions", at, next, mixed})
			end = next
		}
		at = end
	}
	return gaps
}

// user looks who writes to a device, through what lies on it.
func (h host) user(device string, held map[string]user, level int) user {
	if by, ok := held[device]; ok {
		return by
	}
	holders, _ := os.ReadDir(filepath.Join(h.sys, "dev/block", device, "holders"))
	if len(holders) == 0 {
		return raw
	}
	if level > maxDepth {
		return mixed
	}
	for _, e := range holders {
		if h.user(readLine(filepath.Join(h.sys, "dev/block", device, "holders", e.Name(), "dev")), held, level+1) != frozen {
			return mixed
		}
	}
	return frozen
}

func readSectors(name string) (int64, error) {
	n, err := strconv.ParseInt(readLine(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return n * sector, nil
}
