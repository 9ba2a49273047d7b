package source

import (
	"sync"
	"unsafe"
)

// bufferAlign fits the memory alignment of every block driver and file system known: a page.
const bufferAlign = 4096

// AlignedBuffer returns n bytes whose address suits direct reads. The caller owns it; it is as well to keep it, in a pool.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+bufferAlign)
	skip := Misaligned(b)
	return b[skip : skip+n : skip+n]
}

// Misaligned is how many bytes of b come before the first whose address suits direct reads.
func Misaligned(b []byte) int {
	return -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (bufferAlign - 1)
}

// aligned reports whether a direct read may go straight into p.
func aligned(p []byte, off int64, align int) bool {
	mask := align - 1
	return off&int64(mask) == 0 && len(p)&mask == 0 &&
		uintptr(unsafe.Pointer(unsafe.SliceData(p)))&uintptr(min(align, bufferAlign)-1) == 0
}

// bounceSize is how much of an unaligned read is done at once.
const bounceSize = 1 << 20

var bounces = sync.Pool{New: func() any { b := AlignedBuffer(bounceSize); return &b }}
