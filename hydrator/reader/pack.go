package reader

import (
	"context"
	"errors"
	"fmt"

	"github.com/openmigrate/openmigrate/staging/format"
)

// Pack reads a whole pack of that many bytes into buf's memory where it has room. An object of another size is damage.
func (r *Reader) Pack(ctx context.Context, id format.PackID, size int64, buf []byte) ([]byte, error) {
	if size <= 0 || size > format.MaxPack {
		return buf, fmt.Errorf("read pack %s: %w: %d bytes", id, format.ErrCorrupt, size)
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if err := r.read(ctx, id, 0, buf); err != nil {
		return buf, err
	}
	var beyond [1]byte
	switch err := r.read(ctx, id, size, beyond[:]); {
	case err == nil:
		return buf, fmt.Errorf("read pack %s: %w: it is longer than %d bytes", id, format.ErrCorrupt, size)
	case !errors.Is(err, errShort):
		return buf, err
	}
	return buf, nil
}

// IsDamage tells an error of what is stored from one of getting at it.
func IsDamage(err error) bool { return isDamage(err) }
