package reader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/openmigrate/openmigrate/staging"
	"github.com/openmigrate/openmigrate/staging/format"
)

// errShort: the object ended before the range did.
var errShort = errors.New("pack is cut short")

// maxRefused is how many times a refused URL is taken for one that expired.
const maxRefused = 4

// read fills buf from off of a pack: with a new URL when the old one is refused, and again when the reason may pass.
// staging.ErrNotFound and errShort say that the pack is damaged; other errors that it could not be read.
func (r *Reader) read(ctx context.Context, pack format.PackID, off int64, buf []byte) error {
	backoff, refused := r.opts.Backoff, 0
	for attempt := 1; ; attempt++ {
		u, ok := r.urls.get(pack)
		if !ok {
			if err := r.sign(ctx, []format.PackID{pack}); err != nil {
				return err
			}
			u, _ = r.urls.get(pack)
		}
		if u == "" {
			return fmt.Errorf("read pack %s: %w", pack, staging.ErrNotFound)
		}
		err := r.attempt(ctx, u, off, buf)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, staging.ErrDenied) && refused < maxRefused:
			refused++
			r.urls.drop(pack, u)
			continue
		case !errors.Is(err, staging.ErrTemporary) || attempt >= r.opts.Attempts:
			return fmt.Errorf("read pack %s: %w", pack, err)
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		backoff *= 2
	}
}

// attempt is one GET.
func (r *Reader) attempt(ctx context.Context, signed string, off int64, buf []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.opts.Timeout, errSlow)
	defer cancel()
	body, err := r.get.Get(ctx, staging.SignedRequest{URL: signed}, off, int64(len(buf)))
	if errors.Is(err, staging.ErrRange) {
		return fmt.Errorf("%w: it ends before %d", errShort, off)
	}
	if err != nil {
		return slow(ctx, err)
	}
	defer body.Close()
	n, err := 0, error(nil)
	for n < len(buf) && err == nil {
		var m int
		m, err = body.Read(buf[n:])
		n += m
	}
	r.fetched.Add(int64(n))
	switch {
	case n == len(buf):
		return nil
	case errors.Is(err, io.EOF): // the answer is whole, and shorter than what was asked for
		return fmt.Errorf("%w: %d bytes from %d, wanted %d", errShort, n, off, len(buf))
	}
	return slow(ctx, fmt.Errorf("%w: body broke off after %d of %d bytes: %w", staging.ErrTemporary, n, len(buf), err))
}

var errSlow = fmt.Errorf("%w: staging did not answer in time", staging.ErrTemporary)

// slow tells a request that took too long from one that the caller gave up.
func slow(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSlow) {
		return errSlow
	}
	return err
}
