package format

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"

	"github.com/openmigrate/openmigrate/chunker"
)

// KeyID tells which project keys an object was sealed with. It reveals nothing of them.
type KeyID [8]byte

// KeysSize is the length of Keys.MarshalBinary.
const KeysSize = 64

// Keys are a project's secrets: one seals, the other names. They never print.
type Keys struct {
	data, id    [32]byte
	chunk       chunker.Key
	node        chunker.Key
	fingerprint KeyID
}

// NewKeys makes random keys.
func NewKeys() *Keys {
	var b [KeysSize]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	k, _ := UnmarshalKeys(b[:])
	return k
}

// UnmarshalKeys reads what MarshalBinary writes: the data key and the id key, 32 bytes each.
func UnmarshalKeys(b []byte) (*Keys, error) {
	if len(b) != KeysSize {
		return nil, fmt.Errorf("%w: keys of %d bytes, want %d", ErrCorrupt, len(b), KeysSize)
	}
	k := new(Keys)
	copy(k.data[:], b)
	copy(k.id[:], b[32:])
	k.chunk = chunker.Key(derive(k.id[:], nil, "openmigrate v1 chunk id", 32))
	k.node = chunker.Key(derive(k.id[:], nil, "openmigrate v1 node id", 32))
	k.fingerprint = KeyID(derive(k.data[:], nil, "openmigrate v1 key id", 8))
	return k, nil
}

// MarshalBinary returns the secrets, for wrapping and for a TLS connection to an agent or node; keep them nowhere else.
func (k *Keys) MarshalBinary() []byte {
	return append(append(make([]byte, 0, KeysSize), k.data[:]...), k.id[:]...)
}

// ID names the keys without revealing them.
func (k *Keys) ID() KeyID { return k.fingerprint }

// ChunkKey keys the ids of chunks.
func (k *Keys) ChunkKey() *chunker.Key { return &k.chunk }

// NodeKey keys the ids of tree nodes, so that a node can never be taken for a chunk.
func (k *Keys) NodeKey() *chunker.Key { return &k.node }

// Equal reports whether both are the same keys, in constant time.
func (k *Keys) Equal(o *Keys) bool {
	return subtle.ConstantTimeCompare(k.MarshalBinary(), o.MarshalBinary()) == 1
}

// String and the others keep the secrets out of logs.
func (k *Keys) String() string { return fmt.Sprintf("keys %x", k.fingerprint) }

// Format implements fmt.Formatter: no verb shows the secrets.
func (k *Keys) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(k.String())) }

// LogValue implements slog.LogValuer.
func (k *Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// derive is HKDF-SHA256.
func derive(secret, salt []byte, info string, n int) []byte {
	key, err := hkdf.Key(sha256.New, secret, salt, info, n)
	if err != nil {
		panic(err) // only for lengths that HKDF cannot give
	}
	return key
}

// sealer returns AES-256-GCM under the key for one salt and purpose.
func (k *Keys) sealer(salt []byte, info string) cipher.AEAD {
	block, err := aes.NewCipher(derive(k.data[:], salt, info, 32))
	if err != nil {
		panic(err) // only for keys of another length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}
