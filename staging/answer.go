package staging

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// CheckRange compares the header of an answer 206 with the range that was asked for, length bytes from off, -1 for all: a server that
// answers with another range would shift data. It fails with ErrChecksum when the answer is for other bytes, or does not say for which.
func CheckRange(h http.Header, off, length int64) error {
	got := h.Get("Content-Range")
	from, to, total, ok := parseContentRange(got)
	// Only an object that ends within the range gives less than the range.
	ok = ok && from == off && (length < 0 || to-from < length) && (to == total-1 || length >= 0 && to-from == length-1)
	if !ok {
		return fmt.Errorf("%w: asked for %s, got the range %.60q", ErrChecksum, RangeHeader(off, length), got)
	}
	if size := h.Get("Content-Length"); size != strconv.FormatInt(to-from+1, 10) {
		return fmt.Errorf("%w: got %.30q bytes for the range %.60q", ErrChecksum, size, got)
	}
	return nil
}

// parseContentRange reads "bytes from-to/total"; to is the last byte's offset.
func parseContentRange(s string) (from, to, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, size, slash := strings.Cut(s, "/")
	first, last, dash := strings.Cut(span, "-")
	if !ok || !slash || !dash {
		return 0, 0, 0, false
	}
	ok = true
	for _, n := range []struct {
		to   *int64
		text string
	}{{&from, first}, {&to, last}, {&total, size}} {
		v, err := strconv.ParseUint(n.text, 10, 63)
		ok = ok && err == nil
		*n.to = int64(v)
	}
	return from, to, total, ok && from <= to && to < total
}
