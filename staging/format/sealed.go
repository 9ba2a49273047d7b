package format

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// A record is a small JSON document of the master's in the bucket, such as machines/<id>. It is authentic in the sense that
// only who holds the project's keys can have written it, and under that object name only:
//
//	envelope "OMSJ" (16), salt [32], sealed length u32, sealed JSON
//
// The key is HKDF-SHA256 of the data key with the salt and info "openmigrate v1 record"; AES-256-GCM with nonce 0; the associated
// data is the 52 bytes of header, then the object's name. Each write has a new salt, so a key is never used twice. Nothing follows
// the sealed JSON. Readers ignore fields that they do not know.
const (
	recordMagic  = "OMSJ"
	recordHeader = envelopeSize + 32 + 4
	recordInfo   = "openmigrate v1 record"
)

// MaxRecord is the longest record, in bytes of object.
const MaxRecord = 64 << 10

// SealJSON encodes v and seals it for the object of that name.
func SealJSON(k *Keys, name string, v any) ([]byte, error) {
	return sealJSON(k, name, v, rand.Reader)
}

func sealJSON(k *Keys, name string, v any, random io.Reader) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("seal record %s: %w", name, err)
	}
	if len(plain)+recordHeader+tagSize > MaxRecord {
		return nil, fmt.Errorf("seal record %s: %d bytes, limit %d", name, len(plain), MaxRecord)
	}
	b := make([]byte, recordHeader, recordHeader+len(plain)+tagSize)
	putEnvelope(b, recordMagic, k.ID())
	salt := b[envelopeSize : envelopeSize+32]
	if _, err := io.ReadFull(random, salt); err != nil {
		return nil, fmt.Errorf("seal record %s: %w", name, err)
	}
	binary.LittleEndian.PutUint32(b[envelopeSize+32:], uint32(len(plain)+tagSize))
	var n [12]byte
	return k.sealer(salt, recordInfo).Seal(b, nonce(&n, 0), plain, recordAAD(b[:recordHeader], name)), nil
}

// OpenJSON checks a record that was found under that name and decodes it into v. ErrCorrupt, ErrVersion or ErrWrongKey.
func OpenJSON(k *Keys, name string, object []byte, v any) error {
	keyID := k.ID()
	if err := checkEnvelope(object, recordMagic, "record", &keyID); err != nil {
		return err
	}
	if len(object) > MaxRecord || len(object) < recordHeader+tagSize ||
		int64(binary.LittleEndian.Uint32(object[envelopeSize+32:])) != int64(len(object)-recordHeader) {
		return fmt.Errorf("%w: record of %d bytes", ErrCorrupt, len(object))
	}
	var n [12]byte
	header := object[:recordHeader]
	plain, err := k.sealer(header[envelopeSize:envelopeSize+32], recordInfo).Open(nil, nonce(&n, 0), object[recordHeader:], recordAAD(header, name))
	if err != nil {
		return fmt.Errorf("%w: record %.200s: %w", ErrCorrupt, name, err)
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("%w: record %.200s: %w", ErrCorrupt, name, err)
	}
	return nil
}

func recordAAD(header []byte, name string) []byte {
	return append(append(make([]byte, 0, len(header)+len(name)), header...), name...)
}
