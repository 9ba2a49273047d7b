// Package format is what is in the bucket, byte by byte: packs, tree nodes, restpoint manifests, wrapped keys, the bucket's marker.
// SPEC.md beside it is the normative text. The package is pure: it reads and writes memory only.
//
// Invariants. Every object begins with a magic, a version and must-understand flags. A decoder of hostile bytes returns
// an error: it never panics and never allocates more than the limits here. Nothing that is sealed is
// looked at before it is authenticated. A pack id, which is the salt of the pack's key, is never used for two contents.
package format

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the version of every object that this package writes.
const Version = 1

var (
	// ErrCorrupt: the bytes are not a valid object: damaged, cut short or forged.
	ErrCorrupt = errors.New("object is damaged")
	// ErrVersion: a newer version wrote this, or with a feature that this version does not know.
	ErrVersion = errors.New("object was written by a newer version")
	// ErrWrongKey: the object belongs to other keys.
	ErrWrongKey = errors.New("object belongs to another project's keys")
	// ErrSignature: a signature does not verify.
	ErrSignature = errors.New("signature does not verify")
	// ErrIDMismatch: content is not what its id says.
	ErrIDMismatch = errors.New("content does not match its id")
	// ErrNeedsBase: the entry is a patch; open it with OpenPatch and its base's content.
	ErrNeedsBase = errors.New("entry is a patch and needs its base")
	// ErrPackFull: there is no room left in a pack; start another.
	ErrPackFull = errors.New("pack is full")
)

// envelopeSize is the length of what every object begins with: magic [4], version u16, flags u16, key id [8].
const envelopeSize = 16

// putEnvelope writes an object's first bytes.
func putEnvelope(b []byte, magic string, keyID KeyID) {
	copy(b, magic)
	binary.LittleEndian.PutUint16(b[4:], Version)
	putFlags(b, 0)
	copy(b[8:16], keyID[:])
}

func putFlags(b []byte, flags uint16) { binary.LittleEndian.PutUint16(b[6:], flags) }

// checkEnvelope checks an object's first bytes in this order: length, magic, version, flags, key.
func checkEnvelope(b []byte, magic, what string, keyID *KeyID) error {
	_, err := checkFlags(b, magic, what, 0, keyID)
	return err
}

// checkFlags is checkEnvelope for an object that may need the features known. It returns those that it needs.
func checkFlags(b []byte, magic, what string, known uint16, keyID *KeyID) (flags uint16, err error) {
	if len(b) < envelopeSize || string(b[:4]) != magic {
		return 0, fmt.Errorf("%w: not a %s", ErrCorrupt, what)
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != Version {
		if v < Version {
			return 0, fmt.Errorf("%w: %s of version %d", ErrCorrupt, what, v)
		}
		return 0, fmt.Errorf("%w: %s of version %d, this program knows up to %d; upgrade it", ErrVersion, what, v, Version)
	}
	flags = binary.LittleEndian.Uint16(b[6:])
	if unknown := flags &^ known; unknown != 0 {
		return 0, fmt.Errorf("%w: %s needs features %#x; upgrade this program", ErrVersion, what, unknown)
	}
	if keyID != nil && KeyID(b[8:16]) != *keyID {
		return 0, fmt.Errorf("%w: %s has key %x, the project's is %x", ErrWrongKey, what, b[8:16], keyID[:])
	}
	return flags, nil
}
