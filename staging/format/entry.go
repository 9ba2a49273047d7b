package format

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
)

// Kind says what an entry of a pack holds.
type Kind uint8

// Kinds. Their numbers are part of the format.
const (
	KindChunk Kind = 1
	KindNode  Kind = 2
)

// PackID names a pack. It is random, and the salt of the pack's key.
type PackID [32]byte

// String returns id in lower-case hexadecimal.
func (id PackID) String() string { return hex.EncodeToString(id[:]) }

// Name is the pack's object name.
func (id PackID) Name() string { s := id.String(); return "packs/" + s[:2] + "/" + s }

// ParsePackID reads the form that String writes.
func ParsePackID(s string) (PackID, error) {
	id, err := chunker.ParseID(s)
	return PackID(id), err
}

// MarshalText makes JSON show ids as String does.
func (id PackID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *PackID) UnmarshalText(b []byte) error {
	v, err := ParsePackID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// Entry is one sealed piece of a pack. Offset is from the start of the object, Stored the sealed length with its tag,
// Raw the length of the content; all in bytes. Base is the chunk that a patch is made of and zero for every other codec. Depth is how many
// patches it takes to open the entry, with itself: 1 to MaxDepth for a patch, else 0.
type Entry struct {
	Kind    Kind
	Codec   chunker.Codec
	Depth   uint8
	ID      chunker.ID
	Base    chunker.ID
	Ordinal uint32
	Offset  uint32
	Stored  uint32
	Raw     uint32
}

// IsPatch reports whether the entry can be opened only with the content of its Base.
func (e *Entry) IsPatch() bool { return e.Codec == chunker.Patch }

// MaxDepth bounds how many patches stand on each other.
const MaxDepth = 16

// StandsOn reports whether a patch may be opened over a copy of its base. That has less depth, so opening ends.
func (e *Entry) StandsOn(base *Entry) bool {
	return base.Kind == KindChunk && base.ID == e.Base && base.Raw == e.Raw && base.Depth < e.Depth
}

// entrySize is the encoded length of an Entry: kind u8, codec u8, depth of the base u8, zero u8, stored u32, raw u32, id [32]. That of a patch is
// followed by its base [32].
const (
	entrySize = 44
	baseSize  = chunker.IDSize
)

// tagSize is what sealing adds, in bytes.
const tagSize = 16

// MarshalEntries encodes a pack's entries in order; offsets and ordinals follow from the order.
func MarshalEntries(entries []Entry) []byte {
	size := len(entries) * entrySize
	for i := range entries {
		if entries[i].IsPatch() {
			size += baseSize
		}
	}
	return appendEntries(make([]byte, 0, size), entries)
}

func appendEntries(dst []byte, entries []Entry) []byte {
	for i := range entries {
		e := &entries[i]
		dst = append(dst, byte(e.Kind), byte(e.Codec), e.BaseDepth(), 0)
		dst = binary.LittleEndian.AppendUint32(dst, e.Stored)
		dst = binary.LittleEndian.AppendUint32(dst, e.Raw)
		dst = append(dst, e.ID[:]...)
		if e.IsPatch() {
			dst = append(dst, e.Base[:]...)
		}
	}
	return dst
}

// UnmarshalEntries reads what MarshalEntries writes and checks every limit. ErrCorrupt, or ErrVersion for a codec or kind
// that this version does not know.
func UnmarshalEntries(b []byte) ([]Entry, error) {
	if len(b) > MaxEntries*(entrySize+baseSize) {
		return nil, fmt.Errorf("%w: %d bytes of entries", ErrCorrupt, len(b))
	}
	entries := make([]Entry, 0, min(len(b)/entrySize, MaxEntries))
	off := uint64(headerSize)
	for i := 0; len(b) > 0; i++ {
		if len(b) < entrySize || i == MaxEntries {
			return nil, fmt.Errorf("%w: %d bytes after entry %d", ErrCorrupt, len(b), i-1)
		}
		r := b[:entrySize]
		b = b[entrySize:]
		e := Entry{
			Kind: Kind(r[0]), Codec: chunker.Codec(r[1]), Ordinal: uint32(i), Offset: uint32(off),
			Stored: binary.LittleEndian.Uint32(r[4:]), Raw: binary.LittleEndian.Uint32(r[8:]), ID: chunker.ID(r[12:44]),
		}
		if !e.SetBaseDepth(r[2]) || r[3] != 0 {
			return nil, fmt.Errorf("%w: entry %d: reserved bytes are set", ErrCorrupt, i)
		}
		if e.IsPatch() {
			if len(b) < baseSize {
				return nil, fmt.Errorf("%w: entry %d is cut short", ErrCorrupt, i)
			}
			e.Base = chunker.ID(b[:baseSize])
			b = b[baseSize:]
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		if off += uint64(e.Stored); off > MaxPack {
			return nil, fmt.Errorf("%w: entries take more than %d bytes", ErrCorrupt, MaxPack)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// check applies the limits of one entry.
func (e *Entry) check() error {
	limit := uint32(chunker.MaxSize)
	switch e.Kind {
	case KindChunk:
	case KindNode:
		limit = MaxNode
	default:
		return fmt.Errorf("%w: kind %d; upgrade this program", ErrVersion, e.Kind)
	}
	if e.Codec > chunker.Patch {
		return fmt.Errorf("%w: codec %d; upgrade this program", ErrVersion, e.Codec)
	}
	switch {
	case e.ID.IsZero():
		return fmt.Errorf("%w: an entry for zeros", ErrCorrupt)
	case e.Raw == 0 || e.Raw > limit:
		return fmt.Errorf("%w: %d raw bytes", ErrCorrupt, e.Raw)
	case e.Stored <= tagSize || e.Stored > e.Raw+tagSize:
		return fmt.Errorf("%w: %d stored bytes for %d", ErrCorrupt, e.Stored, e.Raw)
	case e.Codec == chunker.Raw && e.Stored != e.Raw+tagSize:
		return fmt.Errorf("%w: %d stored bytes for %d raw", ErrCorrupt, e.Stored, e.Raw)
	case e.IsPatch() != !e.Base.IsZero():
		return fmt.Errorf("%w: codec %d with base %s", ErrCorrupt, e.Codec, e.Base)
	case e.IsPatch() != (e.Depth > 0) || e.Depth > MaxDepth:
		return fmt.Errorf("%w: codec %d of depth %d", ErrCorrupt, e.Codec, e.Depth)
	case e.IsPatch() && (e.Kind != KindChunk || e.Base == e.ID):
		return fmt.Errorf("%w: a patch of kind %d of %s against %s", ErrCorrupt, e.Kind, e.ID, e.Base)
	}
	return nil
}

// Check applies the limits of one entry, wherever its description comes from: ErrCorrupt, or ErrVersion for a codec or kind that
// this version does not know.
func (e *Entry) Check() error { return e.check() }

// associatedSize is the most that associated needs, in bytes.
const associatedSize = 40 + baseSize + 1

// associated is what an entry's tag covers beside its content: version u16, kind u8, codec u8, raw u32, id [32], and of a patch its
// base [32], and if that is itself a patch its depth u8.
func (e *Entry) associated(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst[:0], Version)
	dst = append(dst, byte(e.Kind), byte(e.Codec))
	dst = binary.LittleEndian.AppendUint32(dst, e.Raw)
	dst = append(dst, e.ID[:]...)
	if e.IsPatch() {
		dst = append(dst, e.Base[:]...)
	}
	if e.Depth > 1 {
		dst = append(dst, e.BaseDepth())
	}
	return dst
}

// SetBaseDepth is for decoders of entries: it sets Depth from what was written. ok is false if only a patch could have that.
func (e *Entry) SetBaseDepth(base byte) (ok bool) {
	if !e.IsPatch() {
		e.Depth = 0
		return base == 0
	}
	e.Depth = uint8(min(int(base)+1, MaxDepth+1)) // more than there may be: Check says so
	return true
}

// BaseDepth is the depth of a patch's base, which is what is written of Depth.
func (e *Entry) BaseDepth() byte { return max(e.Depth, 1) - 1 }

// nonce of an entry: 4 zero bytes, then its ordinal as u64 big-endian.
func nonce(dst *[12]byte, ordinal uint64) []byte {
	binary.BigEndian.PutUint64(dst[4:], ordinal)
	return dst[:]
}
