package format

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"testing"

	"filippo.io/age"

	"github.com/openmigrate/openmigrate/chunker"
)

// fuzzKeys are fixed, so that what a fuzzer finds can be found again.
func fuzzKeys(t testing.TB) *Keys {
	t.Helper()
	k, err := UnmarshalKeys(bytes.Repeat([]byte{7}, KeysSize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// clean fails when a decoder returns an error that callers cannot test for.
func clean(t *testing.T, err error) {
	t.Helper()
	for _, known := range []error{ErrCorrupt, ErrVersion, ErrWrongKey, ErrSignature, ErrIDMismatch, ErrNeedsBase} {
		if err == nil || errors.Is(err, known) {
			return
		}
	}
	t.Errorf("error %v is none of the package's", err)
}

func fuzzPack(t testing.TB, k *Keys) []byte {
	t.Helper()
	w, err := newPackWriter(k, make([]byte, 0, 1<<16), bytes.NewReader(bytes.Repeat([]byte{9}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("content of a chunk")
	if err := w.Append(KindChunk, chunker.NewHasher(k.ChunkKey()).ID(content), chunker.Raw, len(content), content); err != nil {
		t.Fatal(err)
	}
	object, _, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(object)
}

func FuzzReadFooter(f *testing.F) {
	k := fuzzKeys(f)
	f.Add(fuzzPack(f, k))
	f.Add(newPatchWorld(f).object)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, entries, err := ReadFooter(k, bytes.NewReader(b), int64(len(b)))
		clean(t, err)
		for _, e := range entries {
			if int64(e.Offset)+int64(e.Stored) > int64(len(b)) {
				t.Errorf("entry %+v lies outside a pack of %d bytes", e, len(b))
			}
		}
	})
}

// FuzzSealedFooter reaches the parser behind the seal: what a hostile agent can write, who has the keys.
func FuzzSealedFooter(f *testing.F) {
	k := fuzzKeys(f)
	f.Add([]byte("entries"), uint32(1))
	f.Add(make([]byte, entrySize), uint32(1))
	f.Add(MarshalEntries(newPatchWorld(f).entries), uint32(1<<31|2))
	f.Fuzz(func(t *testing.T, plain []byte, count uint32) {
		id := PackID{1}
		b := make([]byte, headerSize)
		putEnvelope(b, packMagic, k.ID())
		if patches := uint32(1 << 31); count&patches != 0 {
			putFlags(b, flagPatches)
			count &^= patches
		}
		copy(b[envelopeSize:], id[:])
		var n [12]byte
		b = k.sealer(id[:], packInfo).Seal(b, nonce(&n, footerOrdinal), plain, b[:headerSize:headerSize])
		var tr [trailerSize]byte
		binary.LittleEndian.PutUint32(tr[0:], uint32(len(plain)+tagSize))
		binary.LittleEndian.PutUint32(tr[4:], count)
		copy(tr[12:], trailerMagic)
		b = append(b, tr[:]...)
		_, _, err := ReadFooter(k, bytes.NewReader(b), int64(len(b)))
		clean(t, err)
	})
}

func FuzzUnmarshalEntries(f *testing.F) {
	f.Add(MarshalEntries([]Entry{{Kind: KindChunk, ID: chunker.ID{1}, Stored: 30, Raw: 14}}))
	f.Add(MarshalEntries(newPatchWorld(f).entries))
	f.Add(make([]byte, 3*entrySize))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := UnmarshalEntries(b)
		clean(t, err)
		if err == nil && !bytes.Equal(MarshalEntries(entries), b) {
			t.Error("the encoding is not the only one")
		}
	})
}

// FuzzOpen opens an entry whose description comes from anywhere.
func FuzzOpen(f *testing.F) {
	k := fuzzKeys(f)
	o, err := NewOpener(k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(1), uint8(0), uint32(0), uint32(34), uint32(18), []byte("stored"))
	f.Add(uint8(2), uint8(1), uint32(7), uint32(1<<31), uint32(1<<31), []byte{})
	f.Fuzz(func(t *testing.T, kind, codec uint8, ordinal, stored, raw uint32, b []byte) {
		e := Entry{Kind: Kind(kind), Codec: chunker.Codec(codec), ID: chunker.ID{5}, Ordinal: ordinal, Stored: stored, Raw: raw}
		out, err := o.OpenVerified(PackID{3}, e, b, nil)
		clean(t, err)
		if err == nil {
			t.Errorf("an entry that nobody sealed opened: %x", out)
		}
		// The same content, sealed as announced: the codec is reached.
		e.Stored = uint32(len(b) + tagSize)
		if e.check() != nil {
			return
		}
		var n [12]byte
		sealed := k.sealer(make([]byte, 32), packInfo).Seal(nil, nonce(&n, uint64(ordinal)), b, e.associated(nil))
		out, err = o.Open(PackID{}, e, sealed, nil)
		clean(t, err)
		if err == nil && uint32(len(out)) != e.Raw {
			t.Errorf("%d bytes, announced %d", len(out), e.Raw)
		}
	})
}

func FuzzDecodeNode(f *testing.F) {
	n := Node{Level: 1}
	n.Children[3], n.Children[63] = chunker.ID{1}, chunker.ID{2}
	f.Add(EncodeNode(nil, &n))
	f.Add(make([]byte, nodeHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		var n Node
		err := DecodeNode(b, &n)
		clean(t, err)
		if err == nil && !bytes.Equal(EncodeNode(nil, &n), b) {
			t.Error("the encoding is not the only one")
		}
	})
}

// oneNode answers every id with the same bytes: a tree that never ends.
type oneNode []byte

func (n oneNode) Nodes(_ context.Context, ids []chunker.ID) ([][]byte, error) {
	out := make([][]byte, len(ids))
	for i := range out {
		out[i] = n
	}
	return out, nil
}

func FuzzWalk(f *testing.F) {
	n := Node{}
	n.Children[0] = chunker.ID{1}
	f.Add(EncodeNode(nil, &n), int64(10))
	f.Fuzz(func(t *testing.T, b []byte, chunks int64) {
		leaves := 0
		stop := errors.New("enough")
		err := Walk(context.Background(), oneNode(b), chunker.ID{9}, chunks, nil, func(index int64, _ chunker.ID) error {
			if index < 0 || index >= chunks {
				t.Errorf("chunk %d of %d", index, chunks)
			}
			if leaves++; leaves > 10000 {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) {
			clean(t, err)
		}
	})
}

// FuzzManifest signs and seals what the fuzzer makes, so that the parser behind both is reached, and tries it bare.
func FuzzManifest(f *testing.F) {
	k := fuzzKeys(f)
	agent := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	f.Add([]byte(`{"id":"r","project":"p","machine":"m","consistency":"fuzzy","disks":[{"number":0,"id":"d","size":1,"chunk_size":65536}]}`))
	f.Add([]byte(`{"disks":[`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		_, err := OpenRestpoint(k, agent.Public().(ed25519.PublicKey), plain)
		clean(t, err)
		if err == nil {
			t.Error("bytes that nobody signed are a manifest")
		}
		b := make([]byte, manifestHeader)
		putEnvelope(b, manifestMagic, k.ID())
		binary.LittleEndian.PutUint32(b[envelopeSize+32:], uint32(len(plain)+tagSize))
		var n [12]byte
		b = k.sealer(b[envelopeSize:envelopeSize+32], manifestInfo).Seal(b, nonce(&n, 0), plain, b[:manifestHeader:manifestHeader])
		b = append(b, ed25519.Sign(agent, append([]byte(manifestDomain), b...))...)
		_, err = OpenRestpoint(k, agent.Public().(ed25519.PublicKey), b)
		clean(t, err)
	})
}

func FuzzOpenObject(f *testing.F) {
	master := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
	object, err := Countersign(master, bytes.Repeat([]byte("m"), 100), ChainLink{Machine: "m1", Sequence: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(object)
	f.Add(object[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := OpenObject(b, master.Public().(ed25519.PublicKey))
		clean(t, err)
	})
}

func FuzzKeysObject(f *testing.F) {
	k := fuzzKeys(f)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	object, err := WrapKeys("p", k, []Slot{{Kind: SlotLocal, Hint: "h", Recipient: id.Recipient()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(object)
	f.Add(object[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := ListSlots(b)
		clean(t, err)
		_, err = UnwrapKeys(b, "p", id)
		clean(t, err)
	})
}

func FuzzDecodeMarker(f *testing.F) {
	b, err := EncodeMarker(&Marker{Bucket: "b", Project: "p"}, KeyID{1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, err := DecodeMarker(b)
		clean(t, err)
	})
}
