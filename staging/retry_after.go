package staging

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// waiting is an error of a server that said when to ask again.
type waiting struct {
	error
	wait time.Duration
}

func (w *waiting) Unwrap() error { return w.error }

// WithRetryAfter adds to err for how long the server wants to be left alone. It returns err when that is no time at all.
func WithRetryAfter(err error, wait time.Duration) error {
	if err == nil || wait <= 0 {
		return err
	}
	return &waiting{error: err, wait: wait}
}

// RetryAfter is for how long the server behind err wants to be left alone, 0 when it did not say. It is the server's word: whoever waits
// bounds it.
func RetryAfter(err error) time.Duration {
	var w *waiting
	if errors.As(err, &w) {
		return w.wait
	}
	return 0
}

// maxRetryAfter keeps a server's number within what time.Duration holds.
const maxRetryAfter = 24 * time.Hour

// ParseRetryAfter reads the Retry-After of an answer 429 or 503: seconds, or a date, which is measured against the answer's own Date
// so that clocks need not agree. It is 0 for other answers and when the header is absent or malformed.
func ParseRetryAfter(status int, h http.Header) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" || status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0
	}
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return max(0, min(time.Duration(seconds)*time.Second, maxRetryAfter))
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), maxRetryAfter))
}
