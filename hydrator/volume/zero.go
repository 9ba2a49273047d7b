package volume

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/chunker"
)

// zeroer remembers how zeros get onto this volume.
type zeroer struct {
	mu    sync.Mutex
	tried bool // guarded by mu
	write bool // guarded by mu: the quick way does not work
}

// deviceAlign is a multiple of every sector size, in bytes. Ranges begin at a chunk, which is a multiple of it.
const deviceAlign = 4096

// zeroBlock is what is written where there is no quick way; never changed.
var zeroBlock = make([]byte, 1<<20)

// Zero makes a range read as zeros. A file gets a hole. A device gets BLKZEROOUT, which the kernel answers by zeroing or not at
// all, and which is proved by reading back the first time. BLKDISCARD is never used: what a device gives after it is its own
// choice. Where neither works zeros are written.
func (v *Volume) Zero(off, n int64) error {
	if n <= 0 {
		return nil
	}
	body := n
	if v.device {
		body -= n % deviceAlign
	}
	if v.quick() && body > 0 {
		err := v.quickZero(off, body)
		if err == nil {
			err = v.prove(off, body)
		}
		switch {
		case err == nil && body == n:
			return nil
		case err == nil:
			return v.writeZeros(off+body, n-body)
		case !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, errNotZero):
			return fmt.Errorf("zero %d bytes of %s at %d: %w", n, v.path, off, err)
		}
		v.zero.mu.Lock()
		v.zero.write = true
		v.zero.mu.Unlock()
	}
	return v.writeZeros(off, n)
}

func (v *Volume) writeZeros(off, n int64) error {
	for n > 0 {
		b := zeroBlock[:min(n, int64(len(zeroBlock)))]
		if _, err := v.f.WriteAt(b, off); err != nil {
			return fmt.Errorf("write zeros to %s at %d: %w", v.path, off, err)
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}

var errNotZero = errors.New("range does not read as zeros")

func (v *Volume) quick() bool {
	v.zero.mu.Lock()
	defer v.zero.mu.Unlock()
	return !v.zero.write
}

func (v *Volume) quickZero(off, n int64) error {
	if v.device {
		return zeroOut(v.f, off, n)
	}
	return unix.Fallocate(int(v.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// prove reads back the first range that was zeroed, both ends of it.
func (v *Volume) prove(off, n int64) error {
	v.zero.mu.Lock()
	defer v.zero.mu.Unlock()
	if v.zero.tried {
		return nil
	}
	b := make([]byte, min(n, 64<<10))
	for _, at := range []int64{off, off + n - int64(len(b))} {
		if _, err := v.f.ReadAt(b, at); err != nil {
			return err
		}
		if !chunker.IsZero(b) {
			return errNotZero
		}
	}
	v.zero.tried = true
	return nil
}
