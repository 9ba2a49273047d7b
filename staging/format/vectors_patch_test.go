package format

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
)

// patchVectors are a pack with a chunk in full and patches of it. The zstd frame in the second was made by zstd 1.5.4, the reference
// implementation; nothing here is ever made again.
type patchVectors struct {
	PackID  string `json:"pack_id"`
	BaseID  string `json:"base_id"`
	Base    string `json:"base"` // hexadecimal
	Entries []struct {
		Patch   string `json:"patch"`   // hexadecimal
		Content string `json:"content"` // hexadecimal
		ID      string `json:"id"`
	} `json:"patches"`
}

// TestPatchVectors opens patches that are written down, and seals them again, byte for byte, under the keys of vectors.json.
func TestPatchVectors(t *testing.T) {
	j, err := os.ReadFile(filepath.Join(vectorDir, "patch.json"))
	must(t, err)
	want := new(patchVectors)
	must(t, json.Unmarshal(j, want))
	if len(want.Entries) < 2 {
		t.Fatalf("patch.json lists %d patches", len(want.Entries))
	}
	path := filepath.Join(vectorDir, "pack-patch.bin")

	k := vectorKeys(t)
	h := chunker.NewHasher(k.ChunkKey())
	r := counting(150)
	w, err := newPackWriter(k, make([]byte, 0, 1<<16), &r)
	must(t, err)
	base := unhex(t, want.Base)
	baseID := h.ID(base)
	if baseID.String() != want.BaseID {
		t.Errorf("base has id %s, want %s", baseID, want.BaseID)
	}
	must(t, w.Append(KindChunk, baseID, chunker.Raw, len(base), base))
	for i, e := range want.Entries {
		content := unhex(t, e.Content)
		id := h.ID(content)
		if id.String() != e.ID {
			t.Errorf("patch %d has id %s, want %s", i, id, e.ID)
		}
		must(t, w.AppendPatch(id, baseID, 1, len(content), unhex(t, e.Patch)))
	}
	made, _, err := w.Finish()
	must(t, err)
	if *update {
		must(t, os.WriteFile(path, made, 0o644))
	}
	pack, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(made, pack) {
		t.Error("pack-patch.bin is made otherwise now")
	}

	packID, entries, err := ReadFooter(k, bytes.NewReader(pack), int64(len(pack)))
	must(t, err)
	if packID.String() != want.PackID || len(entries) != 1+len(want.Entries) {
		t.Fatalf("pack %s with %d entries", packID, len(entries))
	}
	o, err := NewOpener(k)
	must(t, err)
	open := func(e Entry) []byte { return pack[e.Offset:][:e.Stored] }
	got, err := o.OpenVerified(packID, entries[0], open(entries[0]), nil)
	must(t, err)
	if !bytes.Equal(got, base) {
		t.Error("entry 0 is not the base")
	}
	for i, e := range entries[1:] {
		if e.Codec != chunker.Patch || e.Base != baseID {
			t.Errorf("patch %d has codec %d and base %s", i, e.Codec, e.Base)
		}
		c, err := o.OpenPatch(packID, e, open(e), base, nil)
		must(t, err)
		if hex.EncodeToString(c) != want.Entries[i].Content {
			t.Errorf("patch %d makes another content", i)
		}
	}
}
