// Package aligned makes buffers for reads and writes past the page cache.
package aligned

import "unsafe"

// Size fits the memory alignment of every block driver and file system known: a page.
const Size = 4096

// Buffer returns n bytes whose address suits direct reads and writes.
func Buffer(n int) []byte {
	b := make([]byte, n+Size)
	skip := Missing(b)
	return b[skip : skip+n : skip+n]
}

// Missing is how many bytes of b come before the first whose address suits.
func Missing(b []byte) int {
	return -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (Size - 1)
}
