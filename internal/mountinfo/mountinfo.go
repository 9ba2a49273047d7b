// Package mountinfo reads proc_pid_mountinfo(5).
package mountinfo

import (
	"bufio"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Mount is one line:
//
//	36 35 8:1 / /mnt rw,noatime shared:1 - ext4 /dev/root rw,errors=continue
type Mount struct {
	Device  string // major:minor; of btrfs one of its own making
	Root    string // folder of the file system that is mounted
	Point   string
	Options string // of the mount
	Type    string
	Source  string
	Super   string // options of the file system; may be empty
}

// maxLine is in bytes; overlay mounts have long lines.
const maxLine = 1 << 20

// Read calls fn with each mount. Lines that are none are left out.
func Read(r io.Reader, fn func(Mount)) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		left, right, ok := strings.Cut(s.Text(), " - ")
		f, g := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 6 || len(g) < 2 {
			continue
		}
		m := Mount{Device: f[2], Root: f[3], Point: Unescape(f[4]), Options: f[5], Type: g[0], Source: Unescape(g[1])}
		if len(g) > 2 {
			m.Super = g[2]
		}
		fn(m)
	}
	return s.Err()
}

// HasOption reports whether a list of options holds one.
func HasOption(options, want string) bool { return slices.Contains(strings.Split(options, ","), want) }

// Unescape undoes the kernel's \040 for a space and the like.
func Unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
