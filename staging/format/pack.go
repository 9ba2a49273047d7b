package format

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/openmigrate/openmigrate/chunker"
)

// A pack:
//
//	header   48 bytes   envelope "OMPK" (16), with flagPatches if an entry is a patch; pack id (32)
//	entries             sealed, back to back, nonce = ordinal
//	footer              sealed list of the entries, nonce = footerOrdinal
//	trailer  16 bytes   footer's sealed length u32, number of entries u32, zero u32, magic "KPMO"
const (
	packMagic    = "OMPK"
	trailerMagic = "KPMO"
	headerSize   = envelopeSize + 32
	trailerSize  = 16
	packInfo     = "openmigrate v1 pack"

	// flagPatches: an entry is a patch. A reader that does not know patches must not take the pack for a damaged one.
	flagPatches = 1

	// footerOrdinal is the footer's nonce; no entry has it.
	footerOrdinal = 1<<64 - 1
)

// Limits of packs, in bytes of object and in entries.
const (
	PackTarget = 32 << 20
	MaxPack    = 64 << 20
	MaxEntries = 1 << 19
)

// PackWriter builds one pack at a time in a buffer of fixed capacity. It belongs to one goroutine and allocates nothing
// per entry.
type PackWriter struct {
	keys    *Keys
	random  io.Reader
	buf     []byte // len: what is written; cap: never exceeded
	aead    cipher.AEAD
	id      PackID
	entries []Entry
	patches int // of entries
	aad     [associatedSize]byte
	nonce   [12]byte
}

// NewPackWriter starts a pack in buf's capacity. The caller must leave buf alone until it is done with the pack.
func NewPackWriter(k *Keys, buf []byte) (*PackWriter, error) {
	return newPackWriter(k, buf, rand.Reader)
}

func newPackWriter(k *Keys, buf []byte, random io.Reader) (*PackWriter, error) {
	if cap(buf) < headerSize+trailerSize+tagSize || cap(buf) > MaxPack {
		return nil, fmt.Errorf("make pack writer: buffer of %d bytes, want at most %d", cap(buf), MaxPack)
	}
	w := &PackWriter{keys: k, buf: buf[:0], random: random}
	return w, w.Reset()
}

// Reset starts another pack, with a new id, in the same buffer.
func (w *PackWriter) Reset() error {
	if _, err := io.ReadFull(w.random, w.id[:]); err != nil {
		return fmt.Errorf("make pack id: %w", err)
	}
	w.aead = w.keys.sealer(w.id[:], packInfo)
	w.entries, w.patches = w.entries[:0], 0
	w.buf = w.buf[:headerSize]
	putEnvelope(w.buf, packMagic, w.keys.ID())
	copy(w.buf[envelopeSize:], w.id[:])
	return nil
}

// ID is the pack's.
func (w *PackWriter) ID() PackID { return w.id }

// Count is the number of entries so far.
func (w *PackWriter) Count() int { return len(w.entries) }

// Len is the size of the object if it were finished now, in bytes.
func (w *PackWriter) Len() int {
	return len(w.buf) + len(w.entries)*entrySize + w.patches*baseSize + tagSize + trailerSize
}

// Room reports whether an entry with data of that many bytes still fits; for a patch ask for chunker.IDSize bytes more.
func (w *PackWriter) Room(data int) bool {
	return len(w.entries) < MaxEntries && w.Len()+data+tagSize+entrySize <= cap(w.buf)
}

// Append seals data, the encoded content of an entry, into the pack; data is the caller's again on return. raw is the length of
// the content before encoding. ErrPackFull when there is no room.
func (w *PackWriter) Append(kind Kind, id chunker.ID, codec chunker.Codec, raw int, data []byte) error {
	return w.append(Entry{Kind: kind, Codec: codec, ID: id, Raw: uint32(raw)}, data)
}

// AppendPatch seals a chunk of raw bytes as a patch of the given depth: what chunker.Compressor.EncodePatch made of it against the chunk base, which
// must be stored elsewhere with less depth; 1: in full. patch is the caller's again on return. ErrPackFull when there is no room.
func (w *PackWriter) AppendPatch(id, base chunker.ID, depth uint8, raw int, patch []byte) error {
	return w.append(Entry{Kind: KindChunk, Codec: chunker.Patch, Depth: depth, ID: id, Base: base, Raw: uint32(raw)}, patch)
}

func (w *PackWriter) append(e Entry, data []byte) error {
	need := len(data)
	if e.IsPatch() {
		need += baseSize
	}
	if !w.Room(need) {
		return ErrPackFull
	}
	e.Ordinal, e.Offset, e.Stored = uint32(len(w.entries)), uint32(len(w.buf)), uint32(len(data)+tagSize)
	if err := e.check(); err != nil {
		return fmt.Errorf("append %s: %w", e.ID, err)
	}
	if e.IsPatch() {
		w.patches++
	}
	w.buf = w.aead.Seal(w.buf, nonce(&w.nonce, uint64(e.Ordinal)), data, e.associated(w.aad[:]))
	w.entries = append(w.entries, e)
	return nil
}

// Finish ends the pack. Object is in the writer's buffer, entries in its memory: both are good until Reset.
func (w *PackWriter) Finish() (object []byte, entries []Entry, err error) {
	if len(w.entries) == 0 {
		return nil, nil, fmt.Errorf("finish pack: it is empty")
	}
	if w.patches > 0 {
		putFlags(w.buf, flagPatches)
	}
	plain := MarshalEntries(w.entries)
	start := len(w.buf)
	w.buf = w.aead.Seal(w.buf, nonce(&w.nonce, footerOrdinal), plain, w.buf[:headerSize:headerSize])
	var t [trailerSize]byte
	binary.LittleEndian.PutUint32(t[0:], uint32(len(w.buf)-start))
	binary.LittleEndian.PutUint32(t[4:], uint32(len(w.entries)))
	copy(t[12:], trailerMagic)
	w.buf = append(w.buf, t[:]...)
	return w.buf, w.entries, nil
}

// ReadFooter checks a pack's header, trailer and footer and returns its id and entries. It reads nothing else and allocates
// at most what MaxEntries needs. ErrCorrupt, ErrVersion, ErrWrongKey, or the reader's error.
func ReadFooter(k *Keys, r io.ReaderAt, size int64) (PackID, []Entry, error) {
	var id PackID
	if size < headerSize+tagSize+trailerSize || size > MaxPack {
		return id, nil, fmt.Errorf("%w: pack of %d bytes", ErrCorrupt, size)
	}
	var header [headerSize]byte
	if err := readAt(r, header[:], 0); err != nil {
		return id, nil, err
	}
	keyID := k.ID()
	flags, err := checkFlags(header[:], packMagic, "pack", flagPatches, &keyID)
	if err != nil {
		return id, nil, err
	}
	copy(id[:], header[envelopeSize:])
	var t [trailerSize]byte
	if err := readAt(r, t[:], size-trailerSize); err != nil {
		return id, nil, err
	}
	length, count := int64(binary.LittleEndian.Uint32(t[0:])), int64(binary.LittleEndian.Uint32(t[4:]))
	bases := length - tagSize - count*entrySize // bytes
	if string(t[12:]) != trailerMagic || binary.LittleEndian.Uint32(t[8:]) != 0 ||
		count == 0 || count > MaxEntries || length > size-headerSize-trailerSize ||
		bases < 0 || bases > count*baseSize || (flags&flagPatches != 0) != (bases != 0) {
		return id, nil, fmt.Errorf("%w: pack trailer", ErrCorrupt)
	}
	sealed := make([]byte, length)
	if err := readAt(r, sealed, size-trailerSize-length); err != nil {
		return id, nil, err
	}
	var n [12]byte
	plain, err := k.sealer(id[:], packInfo).Open(sealed[:0], nonce(&n, footerOrdinal), sealed, header[:])
	if err != nil {
		return id, nil, fmt.Errorf("%w: pack footer: %w", ErrCorrupt, err)
	}
	entries, err := UnmarshalEntries(plain)
	if err != nil {
		return id, nil, err
	}
	if int64(len(entries)) != count {
		return id, nil, fmt.Errorf("%w: pack footer lists %d entries, its trailer %d", ErrCorrupt, len(entries), count)
	}
	last := entries[len(entries)-1]
	if int64(last.Offset)+int64(last.Stored) != size-trailerSize-length {
		return id, nil, fmt.Errorf("%w: pack of %d bytes does not hold what its footer lists", ErrCorrupt, size)
	}
	return id, entries, nil
}

func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return fmt.Errorf("%w: cut short at %d", ErrCorrupt, off+int64(n))
	}
	return err
}
