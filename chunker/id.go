package chunker

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// IDSize is the length of an ID in bytes.
const IDSize = 32

// ID names content: the keyed BLAKE3-256 of a chunk or of a tree node. The zero ID is well known: it names content that
// is all zero bytes, whatever its length, and a subtree that holds only such content. It is never stored.
type ID [IDSize]byte

// Zero is the ID of all-zero content.
var Zero ID

// IsZero reports whether id names all-zero content.
func (id ID) IsZero() bool { return id == Zero }

// String returns id in lower-case hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads the form that String writes and no other, so that an id has one name.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*IDSize {
		return id, fmt.Errorf("parse id %.80q: want %d hexadecimal digits, got %d", s, 2*IDSize, len(s))
	}
	if strings.ContainsAny(s, "ABCDEF") {
		return id, fmt.Errorf("parse id %q: want lower case", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("parse id %.80q: %w", s, err)
	}
	return id, nil
}

// MarshalText makes JSON show ids as String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}
