package staging

import (
	"errors"
	"fmt"
	"strings"
)

// ErrName marks an object name that no store takes.
var ErrName = errors.New("object name is not allowed")

// maxName is S3's limit for a key less room for a prefix, in bytes.
const maxName = 900

// CheckName returns ErrName unless name is a slash-separated path of printable ASCII without empty, "." or ".." parts.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName
	for _, c := range []byte(name) {
		ok = ok && c > ' ' && c < 0x7f && c != '\\' && c != '?' && c != '%' && c != '#'
	}
	for part := range strings.SplitSeq(name, "/") {
		ok = ok && part != "" && part != "." && part != ".."
	}
	if !ok {
		return fmt.Errorf("%w: %.100q", ErrName, name)
	}
	return nil
}
