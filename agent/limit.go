package agent

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// limitStep is how many bytes are let through at once.
const limitStep = 64 << 10

// limiter is the bandwidth that all packs of an agent share.
type limiter struct{ bucket *rate.Limiter }

func newLimiter() *limiter { return &limiter{rate.NewLimiter(rate.Inf, limitStep)} }

// set changes the limit, in bytes per second, for what is under way, too; 0: none.
func (l *limiter) set(bytes int64) {
	if bytes <= 0 {
		l.bucket.SetLimit(rate.Inf)
		return
	}
	l.bucket.SetLimit(rate.Limit(bytes))
}

// reader slows r down until ctx ends.
func (l *limiter) reader(ctx context.Context) func(io.Reader) io.Reader {
	return func(r io.Reader) io.Reader { return &limitedReader{ctx, l, r} }
}

type limitedReader struct {
	ctx context.Context
	l   *limiter
	r   io.Reader
}

func (r *limitedReader) Read(p []byte) (int, error) {
	if r.l.bucket.Limit() == rate.Inf {
		return r.r.Read(p)
	}
	n, err := r.r.Read(p[:min(len(p), limitStep)])
	if n > 0 {
		if werr := r.l.bucket.WaitN(r.ctx, n); werr != nil {
			return 0, werr
		}
	}
	return n, err
}
