package volume

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/internal/aligned"
)

// direct writes past the page cache: all that a restore writes goes to the disk in any case, and a copy in memory that nobody reads costs
// half of the restore's CPU time (pwrite of 256 KiB on ext4, measured with pprof).
type direct struct {
	f   *os.File // nil: there is no such way
	off atomic.Bool
}

// open tries whether the volume can be written so.
func (d *direct) open(f *os.File) {
	g, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err == nil {
		d.f = g
	}
}

func (d *direct) close() error {
	if d.f == nil {
		return nil
	}
	return d.f.Close()
}

var bounces = sync.Pool{New: func() any { return new([]byte) }}

// WriteAt writes content, in any alignment.
func (v *Volume) WriteAt(b []byte, off int64) (int, error) {
	whole := len(b) &^ (aligned.Size - 1)
	if v.direct.f == nil || v.direct.off.Load() || off&(aligned.Size-1) != 0 || whole == 0 || whole > chunker.MaxSize {
		return v.f.WriteAt(b, off)
	}
	p := b[:whole]
	if aligned.Missing(b) != 0 {
		bounce := bounces.Get().(*[]byte)
		defer bounces.Put(bounce)
		if len(*bounce) < whole+aligned.Size {
			*bounce = make([]byte, whole+aligned.Size)
		}
		p = (*bounce)[aligned.Missing(*bounce):][:whole]
		copy(p, b)
	}
	n, err := v.direct.f.WriteAt(p, off)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) { // a device that wants more than a page
		v.direct.off.Store(true)
		return v.f.WriteAt(b, off)
	}
	if err != nil || whole == len(b) {
		return n, err
	}
	m, err := v.f.WriteAt(b[whole:], off+int64(whole))
	return n + m, err
}
