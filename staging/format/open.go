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
	aad    [associatedSize]byte
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
// not changed. The result has e.Raw bytes. ErrCorrupt or ErrVersion; ErrNeedsBase for a patch. The id is covered by the tag, but
// whoever sealed it may have lied about it: OpenVerified also checks that.
func (o *Opener) Open(pack PackID, e Entry, stored, dst []byte) ([]byte, error) {
	if err := o.begin(pack, &e, stored); err != nil {
		return nil, err
	}
	if e.IsPatch() {
		return nil, fmt.Errorf("open %s: %w", e.ID, ErrNeedsBase)
	}
	if e.Codec == chunker.Raw && cap(dst) >= int(e.Raw) {
		return o.unseal(dst, e, stored)
	}
	plain, err := o.unsealOwn(e, stored)
	if err != nil {
		return nil, err
	}
	out, err := o.decomp.Decompress(dst, e.Codec, plain, int(e.Raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, e.ID, err)
	}
	return out, nil
}

// begin checks an entry's description and gets its pack's key ready.
func (o *Opener) begin(pack PackID, e *Entry, stored []byte) error {
	if err := e.check(); err != nil {
		return err
	}
	if uint32(len(stored)) != e.Stored {
		return fmt.Errorf("%w: entry of %d bytes, want %d", ErrCorrupt, len(stored), e.Stored)
	}
	if o.aead == nil || o.pack != pack {
		o.pack = pack // a slice of the argument would put it on the heap, for each entry
		o.aead = o.keys.sealer(o.pack[:], packInfo)
	}
	return nil
}

// unsealOwn unseals into the opener's own buffer.
func (o *Opener) unsealOwn(e Entry, stored []byte) ([]byte, error) {
	if cap(o.plain) < len(stored) {
		o.plain = make([]byte, 0, len(stored))
	}
	return o.unseal(o.plain, e, stored)
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
	if err := o.verify(&e, out); err != nil {
		return nil, err
	}
	return out, nil
}

// OpenPatch is OpenVerified for an entry that is a patch: base is the content of e.Base. Were it another content, the result would not have its
// id. dst must not overlap base, which is not changed.
func (o *Opener) OpenPatch(pack PackID, e Entry, stored, base, dst []byte) ([]byte, error) {
	out, err := o.ApplyPatch(pack, e, stored, base, dst)
	if err != nil {
		return nil, err
	}
	if err := o.verify(&e, out); err != nil {
		return nil, err
	}
	return out, nil
}

// ApplyPatch is OpenPatch without the check of the id, for what further patches are put over: the last one's id proves them all.
func (o *Opener) ApplyPatch(pack PackID, e Entry, stored, base, dst []byte) ([]byte, error) {
	if err := o.begin(pack, &e, stored); err != nil {
		return nil, err
	}
	if !e.IsPatch() || uint32(len(base)) != e.Raw {
		return nil, fmt.Errorf("%w: %s: %d bytes with codec %d, to be made of a base of %d", ErrCorrupt, e.ID, e.Raw, e.Codec, len(base))
	}
	plain, err := o.unsealOwn(e, stored)
	if err != nil {
		return nil, err
	}
	out, err := o.decomp.ApplyPatch(dst, base, plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, e.ID, err)
	}
	return out, nil
}

// verify checks that content is what the id of its entry says; ErrIDMismatch otherwise.
func (o *Opener) verify(e *Entry, content []byte) error {
	h := o.chunk
	if e.Kind == KindNode {
		h = o.node
	}
	if id := h.ID(content); id != e.ID {
		return fmt.Errorf("%w: %s holds %s", ErrIDMismatch, e.ID, id)
	}
	return nil
}
