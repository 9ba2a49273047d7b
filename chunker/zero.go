package chunker

import (
	"bytes"
	"encoding/binary"
)

var zeros [64 << 10]byte

// IsZero reports whether b holds only zero bytes. Content that is not zero is mostly found so at once; the rest is compared
// at memory speed (bytes.Equal is vectorised).
func IsZero(b []byte) bool {
	if len(b) >= 16 && (binary.LittleEndian.Uint64(b)|binary.LittleEndian.Uint64(b[len(b)-8:])) != 0 {
		return false
	}
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
