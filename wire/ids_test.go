package wire

import (
	"bytes"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/staging/format"
)

// TestPatchLocations: the bases follow all locations, one for each patch and no more.
func TestPatchLocations(t *testing.T) {
	ids, want := someLocations()
	plain := EncodeLocations(nil, want)
	want[0].Entry.Codec, want[0].Entry.Depth, want[0].Entry.Base = chunker.Patch, 7, chunker.ID{5, 31: 6}
	want[1] = Location{Found: true, Pack: format.PackID{4}, Entry: format.Entry{Kind: format.KindChunk, Codec: chunker.Patch, Depth: 1, ID: ids[1], Base: chunker.ID{8}, Raw: 9}}
	good := EncodeLocations(nil, want)
	got, err := DecodeLocations(good, ids)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("location %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	for name, b := range map[string][]byte{
		"one base less":        good[:len(good)-chunker.IDSize],
		"cut in a base":        good[:len(good)-1],
		"one base more":        append(bytes.Clone(good), make([]byte, chunker.IDSize)...),
		"a base and no patch":  append(bytes.Clone(plain), make([]byte, chunker.IDSize)...),
		"bases past all ids":   append(bytes.Clone(good), make([]byte, 2*chunker.IDSize)...),
		"patches and no bases": good[:len(ids)*LocationSize],
	} {
		if _, err := DecodeLocations(b, ids); err == nil {
			t.Errorf("%s: %d bytes are taken for %d ids", name, len(b), len(ids))
		}
	}
}
