package source

import (
	"sync"
	"unsafe"

	"github.com/openmigrate/openmigrate/internal/aligned"
)

// AlignedBuffer returns n bytes whose address suits direct reads. The caller owns it; it is as well to keep it, in a pool.
func AlignedBuffer(n int) []byte { return aligned.Buffer(n) }

// isAligned reports whether a direct read may go straight into p.
func isAligned(p []byte, off int64, align int) bool {
	mask := align - 1
	return off&int64(mask) == 0 && len(p)&mask == 0 &&
		uintptr(unsafe.Pointer(unsafe.SliceData(p)))&uintptr(min(align, aligned.Size)-1) == 0
}

// bounceSize is how much of an unaligned read is done at once.
const bounceSize = 1 << 20

var bounces = sync.Pool{New: func() any { b := AlignedBuffer(bounceSize); return &b }}
