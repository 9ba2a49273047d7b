package freespace

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/internal/mountinfo"
)

// Limits of what is kept of /proc.
const (
	maxMounts = 16 << 10
	maxSwaps  = 1 << 10
	maxLine   = 1 << 20 // bytes of a line of swaps
)

// mount is one line of mountinfo, of a file system that this package knows.
type mount struct {
	device  string // major:minor; of btrfs one of its own making
	point   string
	fs      string
	options string // of the file system, not of the mount
}

// has reports whether the file system was mounted with an option.
func (m mount) has(option string) bool { return mountinfo.HasOption(m.options, option) }

// logless reports options with which a log may not have been replayed: what it holds is in use, though the maps do not say so.
func (m mount) logless() bool {
	for o := range strings.SplitSeq(m.options, ",") {
		switch name, _, _ := strings.Cut(o, "="); name {
		case "noload", "norecovery", "nologreplay", "rescue":
			return true
		}
	}
	return false
}

// host is what /proc says, read once for each call of Of.
type host struct {
	mounts []mount
	swaps  map[string]bool // active areas that are devices, by major:minor
}

func readHost() (*host, error) {
	h := &host{swaps: map[string]bool{}}
	var err error
	if h.mounts, err = readMounts(); err != nil {
		return nil, err
	}
	f, err := os.Open("/proc/swaps")
	if os.IsNotExist(err) {
		return h, nil // a kernel without swap
	}
	if err != nil {
		return nil, fmt.Errorf("list swap areas: %w", err)
	}
	defer f.Close()
	paths, err := parseSwaps(f)
	if err != nil {
		return nil, fmt.Errorf("list swap areas: %w", err)
	}
	for _, path := range paths {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.swaps[fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))] = true
		}
	}
	return h, nil
}

func readMounts() ([]mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	mounts, err := parseMounts(f)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return mounts, nil
}

// parseMounts reads mountinfo.
func parseMounts(r io.Reader) ([]mount, error) {
	var list []mount
	err := mountinfo.Read(r, func(m mountinfo.Mount) {
		if m.Super == "" || len(list) >= maxMounts {
			return
		}
		if _, known := magics[m.Type]; known {
			list = append(list, mount{device: m.Device, point: m.Point, fs: m.Type, options: m.Super})
		}
	})
	return list, err
}

// parseSwaps reads the paths of /proc/swaps: a heading, then path, type, size, used and priority.
func parseSwaps(r io.Reader) ([]string, error) {
	var list []string
	err := eachLine(r, func(line string) {
		f := strings.Fields(line)
		if len(f) >= 5 && f[1] == "partition" && len(list) < maxSwaps {
			list = append(list, mountinfo.Unescape(f[0]))
		}
	})
	return list, err
}

func eachLine(r io.Reader, fn func(string)) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		fn(s.Text())
	}
	return s.Err()
}
