package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// EncodeIDs concatenates ids, 32 bytes each.
func EncodeIDs(dst []byte, ids []chunker.ID) []byte {
	for i := range ids {
		dst = append(dst, ids[i][:]...)
	}
	return dst
}

// DecodeIDs reads what EncodeIDs writes; more than MaxOffer ids is an error.
func DecodeIDs(b []byte) ([]chunker.ID, error) {
	if len(b)%chunker.IDSize != 0 {
		return nil, fmt.Errorf("decode ids: %d bytes is not a multiple of %d", len(b), chunker.IDSize)
	}
	n := len(b) / chunker.IDSize
	if n > MaxOffer {
		return nil, fmt.Errorf("decode ids: %d ids, at most %d in one request", n, MaxOffer)
	}
	ids := make([]chunker.ID, n)
	for i := range ids {
		copy(ids[i][:], b[i*chunker.IDSize:])
	}
	return ids, nil
}

// Bitmap has one bit for each id of a request: bit i%8 of byte i/8.
type Bitmap []byte

// NewBitmap has room for n bits, all clear.
func NewBitmap(n int) Bitmap { return make(Bitmap, (n+7)/8) }

// Set sets bit i.
func (b Bitmap) Set(i int) { b[i/8] |= 1 << (i % 8) }

// Get reads bit i; bits past the end are clear.
func (b Bitmap) Get(i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }

// DecodeBitmap reads a bitmap for n ids and refuses any other length, and bits past the end.
func DecodeBitmap(b []byte, n int) (Bitmap, error) {
	if len(b) != (n+7)/8 {
		return nil, fmt.Errorf("decode bitmap: %d bytes for %d ids, want %d", len(b), n, (n+7)/8)
	}
	if n%8 != 0 && b[n/8]>>(n%8) != 0 {
		return nil, fmt.Errorf("decode bitmap: bits are set past id %d", n-1)
	}
	return b, nil
}

// Location is where one id is stored. Found false: nowhere that can be used.
type Location struct {
	Found bool
	Pack  format.PackID
	Entry format.Entry
}

// LocationSize is the encoded size of a Location: found u8, kind u8, codec u8, depth of a patch's base u8, ordinal u32, offset u32, stored u32, raw u32,
// pack 32 bytes, all little-endian. All is 0 when found is. The id is the one asked for, in order, and not repeated. After all
// locations come the bases of those that are patches, 32 bytes each, in order.
const LocationSize = 20 + 32

// EncodeLocations concatenates locs.
func EncodeLocations(dst []byte, locs []Location) []byte {
	for i := range locs {
		l := &locs[i]
		var b [LocationSize]byte
		if l.Found {
			b[0], b[1], b[2], b[3] = 1, byte(l.Entry.Kind), byte(l.Entry.Codec), l.Entry.BaseDepth()
			binary.LittleEndian.PutUint32(b[4:], l.Entry.Ordinal)
			binary.LittleEndian.PutUint32(b[8:], l.Entry.Offset)
			binary.LittleEndian.PutUint32(b[12:], l.Entry.Stored)
			binary.LittleEndian.PutUint32(b[16:], l.Entry.Raw)
			copy(b[20:], l.Pack[:])
		}
		dst = append(dst, b[:]...)
	}
	for i := range locs {
		if l := &locs[i]; l.Found && l.Entry.IsPatch() {
			dst = append(dst, l.Entry.Base[:]...)
		}
	}
	return dst
}

// DecodeLocations reads the answer to a resolve of ids: what EncodeLocations writes, and no other form of it. Whether an
// entry is within its limits is for whoever opens it to check.
func DecodeLocations(b []byte, ids []chunker.ID) ([]Location, error) {
	bases := len(b) - len(ids)*LocationSize
	if bases < 0 || bases > len(ids)*chunker.IDSize {
		return nil, fmt.Errorf("decode locations: %d bytes for %d ids, want %d and a base for each patch", len(b), len(ids), len(ids)*LocationSize)
	}
	locs := make([]Location, len(ids))
	patches := 0
	for i := range locs {
		r := b[i*LocationSize:][:LocationSize]
		if r[0] == 0 && [LocationSize]byte(r) == [LocationSize]byte{} {
			continue
		}
		l := &locs[i]
		l.Found = true
		l.Entry = format.Entry{
			Kind: format.Kind(r[1]), Codec: chunker.Codec(r[2]), ID: ids[i],
			Ordinal: binary.LittleEndian.Uint32(r[4:]), Offset: binary.LittleEndian.Uint32(r[8:]),
			Stored: binary.LittleEndian.Uint32(r[12:]), Raw: binary.LittleEndian.Uint32(r[16:]),
		}
		copy(l.Pack[:], r[20:])
		if r[0] != 1 || !l.Entry.SetBaseDepth(r[3]) {
			return nil, fmt.Errorf("decode locations: location %d of %d is damaged", i, len(ids))
		}
		if l.Entry.IsPatch() {
			patches++
		}
	}
	if bases != patches*chunker.IDSize {
		return nil, fmt.Errorf("decode locations: %d bytes of bases for %d patches", bases, patches)
	}
	b = b[len(b)-bases:]
	for i := range locs {
		if l := &locs[i]; l.Entry.IsPatch() {
			l.Entry.Base = chunker.ID(b[:chunker.IDSize])
			b = b[chunker.IDSize:]
		}
	}
	return locs, nil
}
