package format

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/openmigrate/openmigrate/chunker"
)

func TestPackRoundTrip(t *testing.T) {
	k := NewKeys()
	w, err := NewPackWriter(k, make([]byte, 0, 2<<20))
	if err != nil {
		t.Fatal(err)
	}
	comp, err := chunker.NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	h := chunker.NewHasher(k.ChunkKey())
	var contents [][]byte
	for i := range 6 {
		c := bytes.Repeat([]byte(fmt.Sprintf("chunk %d ", i)), 20000)[:100000]
		if i%2 == 1 {
			_, _ = rand.Read(c)
		}
		contents = append(contents, c)
		out, codec := comp.Compress(nil, c)
		if err := w.Append(KindChunk, h.ID(c), codec, len(c), out); err != nil {
			t.Fatal(err)
		}
	}
	want := w.Len()
	object, entries, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if len(object) != want {
		t.Errorf("object has %d bytes, Len said %d", len(object), want)
	}
	id, got, err := ReadFooter(k, bytes.NewReader(object), int64(len(object)))
	if err != nil || id != w.ID() || len(got) != len(entries) {
		t.Fatalf("ReadFooter = %v, %d entries, %v", id, len(got), err)
	}
	o, err := NewOpener(k)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range got {
		if e != entries[i] {
			t.Errorf("entry %d is %+v, was written as %+v", i, e, entries[i])
		}
		stored := object[e.Offset:][:e.Stored]
		c, err := o.OpenVerified(id, e, stored, nil)
		if err != nil || !bytes.Equal(c, contents[i]) {
			t.Fatalf("entry %d: %v", i, err)
		}
		lie := e
		lie.ID[0] ^= 1
		if _, err := o.Open(id, lie, stored, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("an entry with another id opened: %v", err)
		}
	}
	// Every flipped bit of header, footer and trailer is found, and so is every cut.
	for _, at := range []int{0, 5, 6, 9, 20, len(object) - 1, len(object) - 5, len(object) - 9, len(object) - 20} {
		bad := bytes.Clone(object)
		bad[at] ^= 1
		if _, _, err := ReadFooter(k, bytes.NewReader(bad), int64(len(bad))); err == nil {
			t.Errorf("a flipped bit at %d was not found", at)
		}
	}
	for cut := 1; cut < 200; cut += 7 {
		if _, _, err := ReadFooter(k, bytes.NewReader(object[:len(object)-cut]), int64(len(object)-cut)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut by %d: %v", cut, err)
		}
	}
	if _, _, err := ReadFooter(NewKeys(), bytes.NewReader(object), int64(len(object))); !errors.Is(err, ErrWrongKey) {
		t.Errorf("with other keys: %v, want ErrWrongKey", err)
	}
	newer := bytes.Clone(object)
	newer[4] = 2
	if _, _, err := ReadFooter(k, bytes.NewReader(newer), int64(len(newer))); !errors.Is(err, ErrVersion) {
		t.Errorf("newer version: %v, want ErrVersion", err)
	}
}

func TestPackFull(t *testing.T) {
	k := NewKeys()
	w, err := NewPackWriter(k, make([]byte, 0, 4096))
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte{1}, 500)
	id := chunker.NewHasher(k.ChunkKey()).ID(data)
	for err == nil {
		err = w.Append(KindChunk, id, chunker.Raw, len(data), data)
	}
	if !errors.Is(err, ErrPackFull) {
		t.Fatalf("%v, want ErrPackFull", err)
	}
	object, _, err := w.Finish()
	if err != nil || len(object) > 4096 {
		t.Fatalf("object of %d bytes in a buffer of 4096: %v", len(object), err)
	}
	first := w.ID()
	if err := w.Reset(); err != nil || w.ID() == first {
		t.Errorf("Reset kept the pack id: %v", err)
	}
}

// memNodes is a NodeReader over a map; it counts what it is asked for.
type memNodes struct {
	m     map[chunker.ID][]byte
	reads int
}

func (n *memNodes) Nodes(_ context.Context, ids []chunker.ID) ([][]byte, error) {
	out := make([][]byte, len(ids))
	for i, id := range ids {
		n.reads++
		if out[i] = n.m[id]; out[i] == nil {
			return nil, fmt.Errorf("no node %s", id)
		}
	}
	return out, nil
}

func buildTree(t testing.TB, k *Keys, nodes *memNodes, chunks int64, ids map[int64]chunker.ID) chunker.ID {
	t.Helper()
	b := NewTreeBuilder(chunker.NewHasher(k.NodeKey()), chunks, func(_ int, _ int64, id chunker.ID, enc []byte) error {
		nodes.m[id] = bytes.Clone(enc)
		return nil
	})
	for i := range chunks {
		if id, ok := ids[i]; ok {
			if err := b.Add(i, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func randomID(r *mrand.Rand) (id chunker.ID) {
	for i := range id {
		id[i] = byte(r.Uint32())
	}
	return id
}

// TestDiffEqualsComparison compares Diff with the obvious loop, over trees of many sizes that grow, shrink and change.
func TestDiffEqualsComparison(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 2))
	k := NewKeys()
	sizes := []int64{1, 2, 63, 64, 65, 4096, 4097, 70000, 300000}
	for _, oldSize := range sizes {
		for _, newSize := range sizes {
			nodes := &memNodes{m: map[chunker.ID][]byte{}}
			old, new := map[int64]chunker.ID{}, map[int64]chunker.ID{}
			for range 40 {
				i := r.Int64N(oldSize)
				old[i] = randomID(r)
				if i < newSize {
					new[i] = old[i]
				}
			}
			for range 10 {
				i := r.Int64N(newSize)
				if r.IntN(3) == 0 {
					delete(new, i)
				} else {
					new[i] = randomID(r)
				}
			}
			ot := Tree{Root: buildTree(t, k, nodes, oldSize, old), Chunks: oldSize}
			nt := Tree{Root: buildTree(t, k, nodes, newSize, new), Chunks: newSize}
			want := map[int64]bool{}
			for i := range newSize {
				if old[i] != new[i] {
					want[i] = true
				}
			}
			last := int64(-1)
			err := Diff(context.Background(), nodes, ot, nt, &DiffOptions{Leaf: func(i int64, o, n chunker.ID) error {
				if i <= last || o != old[i] || n != new[i] || !want[i] {
					return fmt.Errorf("chunk %d after %d: %s to %s, want %s to %s", i, last, o, n, old[i], new[i])
				}
				last = i
				delete(want, i)
				return nil
			}})
			if err != nil || len(want) != 0 {
				t.Fatalf("%d to %d chunks: %v; %d differences not reported", oldSize, newSize, err, len(want))
			}
		}
	}
}

func TestDiffCostsInProportionToChange(t *testing.T) {
	r := mrand.New(mrand.NewPCG(3, 4))
	k := NewKeys()
	nodes := &memNodes{m: map[chunker.ID][]byte{}}
	const chunks = 1 << 17
	ids := map[int64]chunker.ID{}
	for i := range int64(chunks) {
		ids[i] = randomID(r)
	}
	old := Tree{buildTree(t, k, nodes, chunks, ids), chunks}
	ids[77777] = randomID(r)
	new := Tree{buildTree(t, k, nodes, chunks, ids), chunks}
	nodes.reads = 0
	found := 0
	if err := Diff(context.Background(), nodes, old, new, &DiffOptions{Leaf: func(i int64, _, _ chunker.ID) error { found++; return nil }}); err != nil {
		t.Fatal(err)
	}
	if want := 2 * Levels(chunks); found != 1 || nodes.reads != want {
		t.Errorf("found %d changes with %d nodes read, want 1 with %d", found, nodes.reads, want)
	}
}

func TestHostileTrees(t *testing.T) {
	k := NewKeys()
	nodes := &memNodes{m: map[chunker.ID][]byte{}}
	r := mrand.New(mrand.NewPCG(5, 6))
	put := func(n *Node) chunker.ID {
		b := EncodeNode(nil, n)
		id := chunker.NewHasher(k.NodeKey()).ID(b)
		nodes.m[id] = b
		return id
	}
	past := &Node{}
	past.Children[10] = randomID(r) // chunk 10 of a disk of 5
	wrongLevel := &Node{Level: 3}
	wrongLevel.Children[0] = randomID(r)
	for name, tree := range map[string]Tree{
		"chunk past the end": {put(past), 5},
		"wrong level":        {put(wrongLevel), 5},
		"too many chunks":    {put(past), chunker.MaxChunks + 1},
	} {
		err := Walk(context.Background(), nodes, tree.Root, tree.Chunks, nil, func(int64, chunker.ID) error { return nil })
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
}

func testRestpoint() *Restpoint {
	return &Restpoint{
		ID: "r1", Project: "p1", Machine: "m1", Created: time.Unix(1700000000, 0).UTC(), Consistency: Fuzzy, Agent: "test",
		Disks: []Disk{{Number: 0, ID: "disk", Name: "/dev/sda", Size: 1 << 30, ChunkSize: 256 << 10, Tracker: "scan", Consistency: Fuzzy}},
	}
}

func TestRestpointChain(t *testing.T) {
	k := NewKeys()
	agentPub, agent, _ := ed25519.GenerateKey(nil)
	masterPub, master, _ := ed25519.GenerateKey(nil)
	otherPub, _, _ := ed25519.GenerateKey(nil)
	m, err := SignRestpoint(k, agent, testRestpoint())
	if err != nil {
		t.Fatal(err)
	}
	object, err := Countersign(master, m, ChainLink{Machine: "m1", Sequence: 7, Time: time.Unix(5, 6).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	got, link, err := OpenObject(object, masterPub)
	if err != nil || link.Sequence != 7 || link.Machine != "m1" || !link.Time.Equal(time.Unix(5, 6)) {
		t.Fatalf("OpenObject: %+v, %v", link, err)
	}
	r, err := OpenRestpoint(k, agentPub, got)
	if err != nil || r.Disks[0].Name != "/dev/sda" {
		t.Fatalf("OpenRestpoint: %+v, %v", r, err)
	}
	if _, _, err := OpenObject(object, otherPub); !errors.Is(err, ErrSignature) {
		t.Errorf("another master's key: %v", err)
	}
	if _, err := OpenRestpoint(k, otherPub, got); !errors.Is(err, ErrSignature) {
		t.Errorf("another agent's key: %v", err)
	}
	if _, err := OpenRestpoint(NewKeys(), agentPub, got); !errors.Is(err, ErrWrongKey) {
		t.Errorf("other keys: %v", err)
	}
	for at := range object {
		bad := bytes.Clone(object)
		bad[at] ^= 0x40
		m, _, err := OpenObject(bad, masterPub)
		if err == nil {
			_, err = OpenRestpoint(k, agentPub, m)
		}
		if err == nil && at >= 8 && at < 16 {
			continue // the outer copy of the key id is a hint; the manifest's own is signed
		}
		if err == nil {
			t.Fatalf("a flipped bit at %d of %d was not found", at, len(object))
		}
	}
}

func TestKeysObject(t *testing.T) {
	k := NewKeys()
	local, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	offline, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	object, err := WrapKeys("p1", k, []Slot{{Kind: SlotLocal, Hint: "master", Recipient: local.Recipient()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := UnwrapKeys(object, "p1", offline); !errors.Is(err, ErrWrongKey) {
		t.Errorf("opened with a key that has no slot: %v", err)
	}
	if object, err = AddSlot(object, "p1", k, Slot{Kind: SlotRecovery, Hint: "safe", Recipient: offline.Recipient()}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []age.Identity{local, offline} {
		got, err := UnwrapKeys(object, "p1", id)
		if err != nil || !got.Equal(k) {
			t.Errorf("UnwrapKeys: %v", err)
		}
	}
	if _, err := UnwrapKeys(object, "p2", local); !errors.Is(err, ErrWrongKey) {
		t.Errorf("keys opened for another project: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if s := fmt.Sprintf(verb, k); bytes.Contains([]byte(s), []byte(fmt.Sprintf("%x", k.data[:4]))) || len(s) > 40 {
			t.Errorf("%s prints %q", verb, s)
		}
	}
}

func TestMarker(t *testing.T) {
	b, err := EncodeMarker(&Marker{Bucket: "b", Project: "p", Created: time.Unix(1, 0).UTC()}, NewKeys().ID())
	if err != nil {
		t.Fatal(err)
	}
	if m, _, err := DecodeMarker(b); err != nil || m.Project != "p" {
		t.Errorf("DecodeMarker = %+v, %v", m, err)
	}
	b[4]++
	if _, _, err := DecodeMarker(b); !errors.Is(err, ErrVersion) {
		t.Errorf("newer marker: %v", err)
	}
}
