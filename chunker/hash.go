package chunker

import "github.com/zeebo/blake3"

// Key keys the hash that makes IDs. Without it nobody can tell whether known content is in a bucket.
type Key [32]byte

// Hasher makes IDs under one key. It belongs to one goroutine and allocates only when made.
type Hasher struct{ h *blake3.Hasher }

// NewHasher returns a Hasher for key.
func NewHasher(key *Key) *Hasher {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic(err) // only for keys that are not 32 bytes
	}
	return &Hasher{h: h}
}

// ID names content: Zero if it is all zero bytes, else its keyed BLAKE3-256.
func (h *Hasher) ID(content []byte) ID {
	if IsZero(content) {
		return Zero
	}
	return h.NonZeroID(content)
}

// NonZeroID is ID without the zero test, for content that is known not to be all zero.
func (h *Hasher) NonZeroID(content []byte) ID {
	var id ID
	h.h.Reset()
	_, _ = h.h.Write(content) // never fails
	h.h.Sum(id[:0])
	return id
}
