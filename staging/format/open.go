package format

import (
	"crypto/cipher"
	"fmt"

	"github.com/openmigrate/openmigrate/chunker"
)

// Opener opens entries of packs. It belongs to one goroutine.
type Opener struct {
	keys   *Keys
	decomp *chunker.Decompressor
	chunk  *chunker.Hasher
	node   *chunker.Hasher
	pack   PackID
	aead   cipher.AEAD // of pack
	plain  []byte
	aad    [40]byte
	nonce  [12]byte
}

// NewOpener makes an Opener for a project's packs.
func NewOpener(k *Keys) (*Opener, error) {
	d, err := chunker.NewDecompressor()
	if err != nil {
		return nil, err
	}
	return &Opener{keys: k, decomp: d, chunk: chunker.NewHasher(k.ChunkKey()), node: chunker.NewHasher(k.NodeKey())}, nil
}

// Open authenticates and decodes one entry into dst's memory where it has room; up to chunker.Slack bytes of capacity behind
// the content may be written to. stored holds exactly the entry's bytes and is
// not changed. The result has e.Raw bytes. ErrCorrupt or ErrVersion. The id is covered by the tag, but whoever sealed it may
// have lied about it: OpenVerified also checks that.
func (o *Opener) Open(pack PackID, e Entry, stored, dst []byte) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	if uint32(len(stored)) != e.Stored {
		return nil, fmt.Errorf("%w: entry of %d bytes, want %d", ErrCorrupt, len(stored), e.Stored)
	}
	if o.aead == nil || o.pack != pack {
		o.pack = pack // a slice of the argument would put it on the heap, for each entry
		o.aead = o.keys.sealer(o.pack[:], packInfo)
	}
	if e.Codec == chunker.Raw && cap(dst) >= int(e.Raw) {
		return o.unseal(dst, e, stored)
	}
	if cap(o.plain) < len(stored) {
		o.plain = make([]byte, 0, len(stored))
	}
	plain, err := o.unseal(o.plain, e, stored)
	if err != nil {
		return nil, err
	}
	out, err := o.decomp.Decompress(dst, e.Codec, plain, int(e.Raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, e.ID, err)
	}
	return out, nil
}

func (o *Opener) unseal(dst []byte, e Entry, stored []byte) ([]byte, error) {
	plain, err := o.aead.Open(dst[:0], nonce(&o.nonce, uint64(e.Ordinal)), stored, e.associated(o.aad[:]))
	if err != nil {
		return nil, fmt.Errorf("%w: entry %s: %w", ErrCorrupt, e.ID, err)
	}
	return plain, nil
}

// OpenVerified is Open and a check that the content is what the id says; ErrIDMismatch otherwise.
func (o *Opener) OpenVerified(pack PackID, e Entry, stored, dst []byte) ([]byte, error) {
	out, err := o.Open(pack, e, stored, dst)
	if err != nil {
		return nil, err
	}
	h := o.chunk
	if e.Kind == KindNode {
		h = o.node
	}
	if id := h.ID(out); id != e.ID {
		return nil, fmt.Errorf("%w: %s holds %s", ErrIDMismatch, e.ID, id)
	}
	return out, nil
}
