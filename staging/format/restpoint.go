package format

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/openmigrate/openmigrate/chunker"
)

// A manifest is what an agent signs:
//
//	envelope "OMRP" (16), salt [32], sealed length u32, sealed JSON, Ed25519 signature [64] over all before it
const (
	manifestMagic  = "OMRP"
	manifestHeader = envelopeSize + 32 + 4
	manifestInfo   = "openmigrate v1 restpoint"
	manifestDomain = "openmigrate v1 restpoint\x00"
)

// Limits of restpoints.
const (
	MaxManifest = 1 << 20 // bytes
	MaxDisks    = 128
	maxIDLength = 64
)

// Consistency says what a restpoint is good for, from weakest to strongest. It is never overstated.
type Consistency string

// Levels of consistency.
const (
	Fuzzy       Consistency = "fuzzy"       // read while it was written
	Crash       Consistency = "crash"       // one instant of all disks
	Filesystem  Consistency = "filesystem"  // all file systems were frozen at that instant
	Application Consistency = "application" // and the applications' hooks succeeded
)

// Restpoint describes one point in time of all disks of a machine.
type Restpoint struct {
	ID          string          `json:"id"`
	Project     string          `json:"project"`
	Machine     string          `json:"machine"`
	Created     time.Time       `json:"created"` // by the agent's clock: the instant that it is of, or the start of reading
	Parent      string          `json:"parent,omitempty"`
	Consistency Consistency     `json:"consistency"`
	Agent       string          `json:"agent"` // version
	Disks       []Disk          `json:"disks"`
	Stats       Stats           `json:"stats"`
	Inventory   json.RawMessage `json:"inventory,omitempty"`
}

// Disk is one disk of a restpoint.
type Disk struct {
	Number      int         `json:"number"` // from 0, in order
	ID          string      `json:"id"`     // stable across restpoints
	Name        string      `json:"name"`
	Size        int64       `json:"size"`       // bytes
	ChunkSize   int         `json:"chunk_size"` // bytes
	Root        chunker.ID  `json:"root"`
	Tracker     string      `json:"tracker"`
	Consistency Consistency `json:"consistency"`
	Changed     int64       `json:"changed"` // bytes of chunks that the parent did not have at that place
}

// Layout is how the disk is split.
func (d *Disk) Layout() chunker.Layout { return chunker.Layout{Size: d.Size, ChunkSize: d.ChunkSize} }

// Tree is the disk's tree.
func (d *Disk) Tree() Tree { return Tree{Root: d.Root, Chunks: d.Layout().Chunks()} }

// Stats is what making the restpoint took, in bytes of disk unless said otherwise.
type Stats struct {
	Total  int64 `json:"total"`
	Zero   int64 `json:"zero"`   // holes and zeros
	Same   int64 `json:"same"`   // as in the parent
	Known  int64 `json:"known"`  // changed, but in staging already
	Sent   int64 `json:"sent"`   // raw bytes of chunks sent
	Stored int64 `json:"stored"` // bytes of packs
	Packs  int64 `json:"packs"`
	Millis int64 `json:"millis"` // milliseconds from the first read to the last pack
}

// RestpointName is the object that holds a restpoint.
func RestpointName(machine, restpoint string) string {
	return "restpoints/" + machine + "/" + restpoint
}

// CheckID returns ErrCorrupt unless s can be an id in an object name: 1 to 64 lower-case letters, digits and dashes.
func CheckID(s string) error {
	ok := len(s) > 0 && len(s) <= maxIDLength
	for _, c := range []byte(s) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%w: id %.80q", ErrCorrupt, s)
	}
	return nil
}

// check applies the limits of a restpoint from anywhere.
func (r *Restpoint) check() error {
	for _, id := range []string{r.ID, r.Project, r.Machine} {
		if err := CheckID(id); err != nil {
			return err
		}
	}
	switch r.Consistency {
	case Fuzzy, Crash, Filesystem, Application:
	default:
		return fmt.Errorf("%w: consistency %.40q", ErrCorrupt, r.Consistency)
	}
	if len(r.Disks) == 0 || len(r.Disks) > MaxDisks {
		return fmt.Errorf("%w: %d disks, want 1 to %d", ErrCorrupt, len(r.Disks), MaxDisks)
	}
	for i := range r.Disks {
		d := &r.Disks[i]
		if d.Number != i || d.ID == "" || len(d.ID) > 255 || len(d.Name) > 4096 {
			return fmt.Errorf("%w: disk %d", ErrCorrupt, i)
		}
		if err := d.Layout().Check(); err != nil {
			return fmt.Errorf("%w: disk %d: %w", ErrCorrupt, i, err)
		}
	}
	return nil
}

// SignRestpoint seals and signs r. The result is what an agent commits.
func SignRestpoint(k *Keys, agent ed25519.PrivateKey, r *Restpoint) ([]byte, error) {
	return signRestpoint(k, agent, r, rand.Reader)
}

func signRestpoint(k *Keys, agent ed25519.PrivateKey, r *Restpoint, random io.Reader) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("sign restpoint: %w", err)
	}
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("sign restpoint: %w", err)
	}
	if len(plain)+manifestHeader+tagSize+ed25519.SignatureSize > MaxManifest {
		return nil, fmt.Errorf("sign restpoint: %d bytes, limit %d", len(plain), MaxManifest)
	}
	b := make([]byte, manifestHeader, manifestHeader+len(plain)+tagSize+ed25519.SignatureSize)
	putEnvelope(b, manifestMagic, k.ID())
	salt := b[envelopeSize : envelopeSize+32]
	if _, err := io.ReadFull(random, salt); err != nil {
		return nil, fmt.Errorf("sign restpoint: %w", err)
	}
	binary.LittleEndian.PutUint32(b[envelopeSize+32:], uint32(len(plain)+tagSize))
	var n [12]byte
	b = k.sealer(salt, manifestInfo).Seal(b, nonce(&n, 0), plain, b[:manifestHeader:manifestHeader])
	return append(b, ed25519.Sign(agent, append([]byte(manifestDomain), b...))...), nil
}

// OpenRestpoint verifies a manifest and returns what it says. ErrSignature, ErrWrongKey, ErrVersion or ErrCorrupt.
func OpenRestpoint(k *Keys, agent ed25519.PublicKey, manifest []byte) (*Restpoint, error) {
	keyID := k.ID()
	if len(manifest) > MaxManifest {
		return nil, fmt.Errorf("%w: manifest of %d bytes", ErrCorrupt, len(manifest))
	}
	if err := checkEnvelope(manifest, manifestMagic, "restpoint manifest", &keyID); err != nil {
		return nil, err
	}
	end := len(manifest) - ed25519.SignatureSize
	if end < manifestHeader+tagSize || int64(binary.LittleEndian.Uint32(manifest[envelopeSize+32:])) != int64(end-manifestHeader) {
		return nil, fmt.Errorf("%w: restpoint manifest of %d bytes", ErrCorrupt, len(manifest))
	}
	signed := manifest[:end:end]
	if len(agent) != ed25519.PublicKeySize || !ed25519.Verify(agent, append([]byte(manifestDomain), signed...), manifest[end:]) {
		return nil, fmt.Errorf("%w: the machine's agent did not sign this restpoint manifest", ErrSignature)
	}
	var n [12]byte
	plain, err := k.sealer(manifest[envelopeSize:envelopeSize+32], manifestInfo).Open(nil, nonce(&n, 0), manifest[manifestHeader:end], manifest[:manifestHeader])
	if err != nil {
		return nil, fmt.Errorf("%w: restpoint manifest: %w", ErrCorrupt, err)
	}
	r := new(Restpoint)
	d := json.NewDecoder(bytes.NewReader(plain))
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("%w: restpoint manifest: %w", ErrCorrupt, err)
	}
	if d.More() {
		return nil, fmt.Errorf("%w: restpoint manifest: something follows its JSON", ErrCorrupt)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return r, nil
}

// An object is a manifest that the master countersigned:
//
//	envelope "OMRO" (16), manifest length u32, manifest, link, Ed25519 signature [64] over the link's bytes
//	link: sequence u64, previous [32], manifest hash [32], time i64 (nanoseconds since 1970), machine length u8, machine
const (
	objectMagic = "OMRO"
	linkFixed   = 8 + 32 + 32 + 8 + 1
	linkDomain  = "openmigrate v1 link\x00"
)

// ChainLink is one link of the chain of a machine's restpoints. Previous is the LinkHash of the one before it, zero for
// the first; Manifest is the SHA-256 of the manifest.
type ChainLink struct {
	Machine  string
	Sequence uint64
	Previous [32]byte
	Manifest [32]byte
	Time     time.Time
}

func (l *ChainLink) bytes() []byte {
	b := binary.LittleEndian.AppendUint64(nil, l.Sequence)
	b = append(b, l.Previous[:]...)
	b = append(b, l.Manifest[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(l.Time.UnixNano()))
	b = append(b, byte(len(l.Machine)))
	return append(b, l.Machine...)
}

// LinkHash is what the next link names as Previous.
func LinkHash(l ChainLink) [32]byte { return sha256.Sum256(l.bytes()) }

// Countersign makes the object that goes into the bucket. link.Manifest is set from manifest.
func Countersign(master ed25519.PrivateKey, manifest []byte, link ChainLink) ([]byte, error) {
	if err := CheckID(link.Machine); err != nil {
		return nil, fmt.Errorf("countersign: %w", err)
	}
	if len(manifest) < envelopeSize || len(manifest) > MaxManifest {
		return nil, fmt.Errorf("countersign: manifest of %d bytes", len(manifest))
	}
	link.Manifest = sha256.Sum256(manifest)
	l := link.bytes()
	b := make([]byte, envelopeSize, envelopeSize+4+len(manifest)+len(l)+ed25519.SignatureSize)
	putEnvelope(b, objectMagic, KeyID(manifest[8:16]))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(manifest)))
	b = append(b, manifest...)
	b = append(b, l...)
	return append(b, ed25519.Sign(master, append([]byte(linkDomain), l...))...), nil
}

// OpenObject checks the master's signature and the manifest's hash. The manifest aliases object. It is not opened:
// OpenRestpoint does that.
func OpenObject(object []byte, master ed25519.PublicKey) (manifest []byte, link ChainLink, err error) {
	if err := checkEnvelope(object, objectMagic, "restpoint", nil); err != nil {
		return nil, link, err
	}
	rest := object[envelopeSize:]
	if len(rest) < 4 {
		return nil, link, fmt.Errorf("%w: restpoint is cut short", ErrCorrupt)
	}
	n := int64(binary.LittleEndian.Uint32(rest))
	rest = rest[4:]
	if n > MaxManifest || int64(len(rest)) < n+linkFixed+ed25519.SignatureSize {
		return nil, link, fmt.Errorf("%w: restpoint of %d bytes", ErrCorrupt, len(object))
	}
	manifest, rest = rest[:n:n], rest[n:]
	signed := rest[: len(rest)-ed25519.SignatureSize : len(rest)-ed25519.SignatureSize]
	if len(signed) != linkFixed+int(signed[linkFixed-1]) {
		return nil, link, fmt.Errorf("%w: restpoint's link", ErrCorrupt)
	}
	if len(master) != ed25519.PublicKeySize || !ed25519.Verify(master, append([]byte(linkDomain), signed...), rest[len(signed):]) {
		return nil, link, fmt.Errorf("%w: the master did not countersign this restpoint", ErrSignature)
	}
	link.Sequence = binary.LittleEndian.Uint64(signed)
	copy(link.Previous[:], signed[8:])
	copy(link.Manifest[:], signed[40:])
	link.Time = time.Unix(0, int64(binary.LittleEndian.Uint64(signed[72:]))).UTC()
	link.Machine = string(signed[linkFixed:])
	if sha256.Sum256(manifest) != link.Manifest {
		return nil, link, fmt.Errorf("%w: manifest is not the one that was countersigned", ErrSignature)
	}
	return manifest, link, nil
}
