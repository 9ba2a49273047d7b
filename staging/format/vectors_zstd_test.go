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

// zstdVectors are compressed entries. The frames were made by zstd 1.5.4, the reference implementation, and are never made again:
// what a compressor writes may change with its version, what a frame means may not.
type zstdVectors struct {
	PackID  string `json:"pack_id"`
	Entries []struct {
		Frame   string `json:"frame"`   // hexadecimal
		Content string `json:"content"` // hexadecimal
		ID      string `json:"id"`
	} `json:"entries"`
}

// TestZstdVectors opens compressed entries that another implementation encoded, and seals them again, byte for byte, under the
// keys of vectors.json.
func TestZstdVectors(t *testing.T) {
	j, err := os.ReadFile(filepath.Join(vectorDir, "zstd.json"))
	must(t, err)
	want := new(zstdVectors)
	must(t, json.Unmarshal(j, want))
	if len(want.Entries) == 0 {
		t.Fatal("zstd.json lists no entry")
	}
	path := filepath.Join(vectorDir, "pack-zstd.bin")

	k := vectorKeys(t)
	h := chunker.NewHasher(k.ChunkKey())
	r := counting(200)
	w, err := newPackWriter(k, make([]byte, 0, 1<<16), &r)
	must(t, err)
	for i, e := range want.Entries {
		frame, content := unhex(t, e.Frame), unhex(t, e.Content)
		id := h.ID(content)
		if id.String() != e.ID {
			t.Errorf("entry %d has id %s, want %s", i, id, e.ID)
		}
		must(t, w.Append(KindChunk, id, chunker.Zstd, len(content), frame))
	}
	made, _, err := w.Finish()
	must(t, err)
	if *update {
		must(t, os.WriteFile(path, made, 0o644))
	}
	pack, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(made, pack) {
		t.Error("pack-zstd.bin is made otherwise now")
	}

	packID, entries, err := ReadFooter(k, bytes.NewReader(pack), int64(len(pack)))
	must(t, err)
	if packID.String() != want.PackID || len(entries) != len(want.Entries) {
		t.Fatalf("pack %s with %d entries", packID, len(entries))
	}
	o, err := NewOpener(k)
	must(t, err)
	for i, e := range entries {
		if e.Codec != chunker.Zstd {
			t.Errorf("entry %d has codec %d", i, e.Codec)
		}
		c, err := o.OpenVerified(packID, e, pack[e.Offset:][:e.Stored], nil)
		must(t, err)
		if hex.EncodeToString(c) != want.Entries[i].Content {
			t.Errorf("entry %d is %x", i, c)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must(t, err)
	return b
}
