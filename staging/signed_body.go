package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// LimitBody guards the body of an answer to a request for length bytes, -1 for all: it ends after length bytes whatever the
// server goes on to send, and an error within it wraps ErrTemporary or is ctx's, since another try may get further.
// Closing it closes body.
func LimitBody(ctx context.Context, body io.ReadCloser, length int64) io.ReadCloser {
	g := &guarded{ctx: ctx, body: body, from: body}
	if length >= 0 {
		g.from = io.LimitReader(body, length)
	}
	return g
}

type guarded struct {
	ctx  context.Context // the request's, whose end also ends the body
	body io.ReadCloser
	from io.Reader
}

func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.from.Read(p)
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return n, err
	case g.ctx.Err() != nil:
		return n, fmt.Errorf("read body: %w", g.ctx.Err())
	}
	return n, fmt.Errorf("read body: %w: %w", ErrTemporary, err)
}

func (g *guarded) Close() error { return g.body.Close() }
