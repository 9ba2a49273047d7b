package format

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/openmigrate/openmigrate/chunker"
)

var update = flag.Bool("update", false, "write the test vectors anew; never after a release")

const vectorDir = "testdata/v1"

// vectors are the inputs and the results that another implementation must come to. Objects are files beside them.
type vectors struct {
	Keys         string            `json:"keys"`       // data key, id key; hexadecimal
	KeyID        string            `json:"key_id"`     // hexadecimal
	AgentSeed    string            `json:"agent_seed"` // Ed25519
	MasterSeed   string            `json:"master_seed"`
	AgeIdentity  string            `json:"age_identity"` // opens keys.bin
	Project      string            `json:"project"`
	ChunkIDs     map[string]string `json:"chunk_ids"` // of chunks given as hexadecimal
	PackID       string            `json:"pack_id"`
	PackContents []string          `json:"pack_contents"` // hexadecimal, in order of entries
	NodeID       string            `json:"node_id"`       // of node.bin
	RecordName   string            `json:"record_name"`
	LinkHash     string            `json:"link_hash"` // of object.bin's link
	TreeRoot     string            `json:"tree_root"`
	TreeChunks   int64             `json:"tree_chunks"`
	TreeChunkIDs map[string]string `json:"tree_chunk_ids"` // index → id
}

// randomness of the vectors: bytes that count up.
type counting byte

func (c *counting) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(*c)
		*c++
	}
	return len(b), nil
}

func vectorKeys(t *testing.T) *Keys {
	t.Helper()
	b := make([]byte, KeysSize)
	c := counting(100)
	_, _ = c.Read(b)
	k, err := UnmarshalKeys(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	agentKey  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0xa1}, ed25519.SeedSize))
	masterKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0xb2}, ed25519.SeedSize))
)

func vectorContents() [][]byte {
	return [][]byte{[]byte("a raw chunk"), bytes.Repeat([]byte("chunk of text\n"), 64), bytes.Repeat([]byte{0xff}, 1000)}
}

// objects makes every object from fixed inputs, but for keys.bin, which age makes at random.
func objects(t *testing.T) (map[string][]byte, *vectors) {
	t.Helper()
	k := vectorKeys(t)
	id := k.ID()
	v := &vectors{Keys: hex.EncodeToString(k.MarshalBinary()), KeyID: hex.EncodeToString(id[:]), AgentSeed: hex.EncodeToString(agentKey.Seed()),
		MasterSeed: hex.EncodeToString(masterKey.Seed()), Project: "p1", RecordName: "machines/m1", ChunkIDs: map[string]string{}, TreeChunkIDs: map[string]string{}}
	out := map[string][]byte{}

	h := chunker.NewHasher(k.ChunkKey())
	r := counting(0)
	w, err := newPackWriter(k, make([]byte, 0, 1<<16), &r)
	must(t, err)
	for _, c := range vectorContents() {
		v.ChunkIDs[hex.EncodeToString(c)] = h.ID(c).String()
		v.PackContents = append(v.PackContents, hex.EncodeToString(c))
		must(t, w.Append(KindChunk, h.ID(c), chunker.Raw, len(c), c))
	}
	n := Node{}
	n.Children[0], n.Children[63] = h.ID([]byte("first")), h.ID([]byte("last"))
	out["node.bin"] = EncodeNode(nil, &n)
	nodeID := chunker.NewHasher(k.NodeKey()).ID(out["node.bin"])
	v.NodeID = nodeID.String()
	v.PackContents = append(v.PackContents, hex.EncodeToString(out["node.bin"]))
	must(t, w.Append(KindNode, nodeID, chunker.Raw, len(out["node.bin"]), out["node.bin"]))
	object, _, err := w.Finish()
	must(t, err)
	out["pack.bin"], v.PackID = bytes.Clone(object), w.ID().String()

	v.TreeChunks = 5000
	b := NewTreeBuilder(chunker.NewHasher(k.NodeKey()), v.TreeChunks, func(int, int64, chunker.ID, []byte) error { return nil })
	for _, i := range []int64{0, 63, 64, 4095, 4096, 4999} {
		cid := h.ID([]byte{byte(i), byte(i >> 8), 1})
		v.TreeChunkIDs[strconv.FormatInt(i, 10)] = cid.String()
		must(t, b.Add(i, cid))
	}
	root, err := b.Finish()
	must(t, err)
	v.TreeRoot = root.String()

	point := testRestpoint()
	point.Project, point.Disks[0].Root = "p1", root
	r = counting(50)
	manifest, err := signRestpoint(k, agentKey, point, &r)
	must(t, err)
	out["manifest.bin"] = manifest
	link := ChainLink{Machine: "m1", Sequence: 3, Previous: [32]byte{4}, Time: time.Unix(1700000001, 5).UTC()}
	out["object.bin"], err = Countersign(masterKey, manifest, link)
	must(t, err)
	_, link, err = OpenObject(out["object.bin"], masterKey.Public().(ed25519.PublicKey))
	must(t, err)
	hash := LinkHash(link)
	v.LinkHash = hex.EncodeToString(hash[:])

	r = counting(90)
	out["record.bin"], err = sealJSON(k, v.RecordName, map[string]string{"id": "m1"}, &r)
	must(t, err)
	out["marker.bin"], err = EncodeMarker(&Marker{Bucket: "b1", Project: "p1", Created: time.Unix(1700000000, 0).UTC()}, k.ID())
	must(t, err)
	return out, v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestVectors makes every object again, byte for byte, and opens what is in the files.
func TestVectors(t *testing.T) {
	made, v := objects(t)
	k := vectorKeys(t)
	if *update {
		id, err := age.GenerateX25519Identity()
		must(t, err)
		v.AgeIdentity = id.String()
		made["keys.bin"], err = WrapKeys(v.Project, k, []Slot{{Kind: SlotLocal, Hint: "vectors", Recipient: id.Recipient()}})
		must(t, err)
		must(t, os.MkdirAll(vectorDir, 0o755))
		for name, b := range made {
			must(t, os.WriteFile(filepath.Join(vectorDir, name), b, 0o644))
		}
		j, err := json.MarshalIndent(v, "", "  ")
		must(t, err)
		must(t, os.WriteFile(filepath.Join(vectorDir, "vectors.json"), append(j, '\n'), 0o644))
	}
	j, err := os.ReadFile(filepath.Join(vectorDir, "vectors.json"))
	must(t, err)
	want := new(vectors)
	must(t, json.Unmarshal(j, want))
	v.AgeIdentity = want.AgeIdentity
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("results differ from the vectors (-want +got):\n%s", diff)
	}
	files := map[string][]byte{}
	for _, name := range []string{"pack.bin", "node.bin", "manifest.bin", "object.bin", "record.bin", "marker.bin", "keys.bin"} {
		files[name], err = os.ReadFile(filepath.Join(vectorDir, name))
		must(t, err)
		if b, ok := made[name]; ok && !bytes.Equal(b, files[name]) {
			t.Errorf("%s is made otherwise now", name)
		}
	}

	packID, entries, err := ReadFooter(k, bytes.NewReader(files["pack.bin"]), int64(len(files["pack.bin"])))
	must(t, err)
	o, err := NewOpener(k)
	must(t, err)
	if packID.String() != want.PackID || len(entries) != len(want.PackContents) {
		t.Fatalf("pack %s with %d entries", packID, len(entries))
	}
	for i, e := range entries {
		c, err := o.OpenVerified(packID, e, files["pack.bin"][e.Offset:][:e.Stored], nil)
		must(t, err)
		if hex.EncodeToString(c) != want.PackContents[i] {
			t.Errorf("entry %d is %x", i, c)
		}
	}
	must(t, DecodeNode(files["node.bin"], new(Node)))
	manifest, _, err := OpenObject(files["object.bin"], masterKey.Public().(ed25519.PublicKey))
	must(t, err)
	p, err := OpenRestpoint(k, agentKey.Public().(ed25519.PublicKey), manifest)
	must(t, err)
	if p.Disks[0].Root.String() != want.TreeRoot {
		t.Errorf("restpoint's root is %s", p.Disks[0].Root)
	}
	must(t, OpenJSON(k, want.RecordName, files["record.bin"], new(map[string]string)))
	_, _, err = DecodeMarker(files["marker.bin"])
	must(t, err)
	identity, err := age.ParseX25519Identity(want.AgeIdentity)
	must(t, err)
	got, err := UnwrapKeys(files["keys.bin"], want.Project, identity)
	must(t, err)
	if !got.Equal(k) {
		t.Error("keys.bin holds other keys")
	}
}
