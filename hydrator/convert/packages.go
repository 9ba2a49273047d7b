package convert

import (
	"bufio"
	"io"
	"strings"
)

// maxStatus bounds dpkg's list of packages, in bytes.
const maxStatus = 256 << 20

// packageVersion looks a package up in dpkg's status file; "" if it is not there.
func packageVersion(r io.Reader, name string) string {
	s := bufio.NewScanner(io.LimitReader(r, maxStatus))
	s.Buffer(nil, 1<<20)
	in := false
	for s.Scan() {
		line := s.Text()
		if value, ok := strings.CutPrefix(line, "Package: "); ok {
			in = value == name
		}
		if value, ok := strings.CutPrefix(line, "Version: "); ok && in {
			return value
		}
	}
	return ""
}
