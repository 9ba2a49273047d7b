// Package opaque makes ids and secrets that nobody can guess, and keeps them as hashes.
package opaque

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

// Hex is n random bytes as hexadecimal digits.
func Hex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}

// Hash hashes what is random already and needs no slow hash: SHA-256.
func Hash(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

// Same compares two hashes in a time that does not tell where they differ.
func Same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
