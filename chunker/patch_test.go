package chunker

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

func codecs(t testing.TB) (*Compressor, *Decompressor) {
	t.Helper()
	c, err := NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	return c, d
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

func TestPatch(t *testing.T) {
	c, d := codecs(t)
	text := func(n int) []byte { return bytes.Repeat([]byte("eight by"), n)[:n] }
	tests := []struct {
		name    string
		raw     int
		blocks  []int
		content func(n int) []byte // of the changed blocks
		codec   Codec
		max     int // bytes of patch
	}{
		{"one block of text", MinSize, []int{3}, text, Zstd, 100},
		{"one block of noise", MinSize, []int{0}, func(n int) []byte { return noise(1, n) }, Raw, 4096 + 3},
		{"two blocks apart", MinSize, []int{0, 15}, func(n int) []byte { return noise(2, n) }, Raw, 2*4096 + 3},
		{"last block is short", MinSize + 100, []int{16}, func(n int) []byte { return noise(3, n) }, Raw, 100 + 4},
		{"short one with the one before", MinSize + 1, []int{15, 16}, text, Zstd, 100},
		{"largest chunk", MaxSize, []int{0, 511, 1023}, text, Zstd, 400},
		{"less than a block", 10, []int{0}, text, Raw, 12},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			base := noise(99, test.raw)
			content := bytes.Clone(base)
			var want Blocks
			for _, i := range test.blocks {
				end := min((i+1)*BlockSize, test.raw)
				copy(content[i*BlockSize:end], test.content(BlockSize))
				want.Set(i)
			}
			blocks, err := DiffBlocks(base, content)
			if err != nil || blocks != want || blocks.Count() != len(test.blocks) {
				t.Fatalf("%d blocks differ, want %d (%v)", blocks.Count(), len(test.blocks), err)
			}
			patch, err := c.EncodePatch(nil, content, &blocks)
			if err != nil {
				t.Fatal(err)
			}
			if Codec(patch[0]) != test.codec || len(patch) > test.max {
				t.Errorf("codec %d, %d bytes; want %d, at most %d", patch[0], len(patch), test.codec, test.max)
			}
			was := bytes.Clone(base)
			out, err := d.ApplyPatch(make([]byte, 0, 5), base, patch)
			if err != nil || !bytes.Equal(out, content) {
				t.Errorf("the patch makes another chunk (%v)", err)
			}
			if !bytes.Equal(base, was) {
				t.Error("the base was changed")
			}
		})
	}
}

// TestPatchUnion applies a later patch against the same old base.
func TestPatchUnion(t *testing.T) {
	c, d := codecs(t)
	base := noise(1, MinSize)
	second := bytes.Clone(base)
	second[0]++
	third := bytes.Clone(second)
	third[5*BlockSize]++
	blocks, err := DiffBlocks(base, second)
	if err != nil {
		t.Fatal(err)
	}
	more, err := DiffBlocks(second, third)
	if err != nil {
		t.Fatal(err)
	}
	blocks.Union(&more)
	if !blocks.Get(0) || !blocks.Get(5) || blocks.Count() != 2 {
		t.Fatalf("union is %v", blocks)
	}
	patch, err := c.EncodePatch(nil, third, &blocks)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := d.ApplyPatch(nil, base, patch); err != nil || !bytes.Equal(out, third) {
		t.Errorf("the patch makes another chunk (%v)", err)
	}
}

func TestEncodePatchRefuses(t *testing.T) {
	c, _ := codecs(t)
	var none, past, far Blocks
	past.Set(16)
	far.Set(MaxBlocks - 1)
	for name, blocks := range map[string]*Blocks{"no block": &none, "the block after the last": &past, "the last possible": &far} {
		if _, err := c.EncodePatch(nil, make([]byte, MinSize), blocks); !errors.Is(err, ErrPatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.EncodePatch(nil, make([]byte, MaxSize+1), &far); !errors.Is(err, ErrPatch) {
		t.Errorf("chunk that is too long: %v", err)
	}
	if _, err := DiffBlocks(make([]byte, 5), make([]byte, 6)); !errors.Is(err, ErrPatch) {
		t.Errorf("different lengths: %v", err)
	}
}

func TestApplyPatchRefuses(t *testing.T) {
	c, d := codecs(t)
	base := noise(1, 3*BlockSize)
	whole := noise(2, 3*BlockSize)
	var blocks Blocks
	blocks.Set(1)
	good, err := c.EncodePatch(nil, whole, &blocks)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(fn func(b []byte) []byte) []byte { return fn(bytes.Clone(good)) }
	tests := map[string][]byte{
		"nothing":          nil,
		"header only":      good[:2],
		"cut short":        good[:len(good)-1],
		"too long":         append(bytes.Clone(good), 0),
		"no block":         edit(func(b []byte) []byte { b[1] = 0; return b }),
		"bit past the end": edit(func(b []byte) []byte { b[1] |= 1 << 3; return b }),
		"only past it":     edit(func(b []byte) []byte { b[1] = 1 << 7; return b }),
		"one block more":   edit(func(b []byte) []byte { b[1] |= 1; return b }),
		"patch of a patch": edit(func(b []byte) []byte { b[0] = byte(Patch); return b }),
		"unknown codec":    edit(func(b []byte) []byte { b[0] = 77; return b }),
		"no zstd frame":    edit(func(b []byte) []byte { b[0] = byte(Zstd); return b }),
	}
	for name, patch := range tests {
		if _, err := d.ApplyPatch(nil, base, patch); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{0, 1, 2*BlockSize - 1, 9 * BlockSize, MaxSize, MaxSize + 1} {
		if _, err := d.ApplyPatch(nil, make([]byte, n), good); !errors.Is(err, ErrEncoding) {
			t.Errorf("base of %d bytes: %v", n, err)
		}
	}
	if out, err := d.ApplyPatch(nil, base, good); err != nil || !bytes.Equal(out[BlockSize:2*BlockSize], whole[BlockSize:2*BlockSize]) {
		t.Errorf("after all that the good one: %v", err)
	}
}

// FuzzApplyPatch applies anything to a chunk. What comes out is as long as the chunk, and differs from it only in marked blocks.
func FuzzApplyPatch(f *testing.F) {
	c, d := codecs(f)
	for _, content := range [][]byte{make([]byte, MinSize), noise(1, 5000), noise(2, 1)} {
		var blocks Blocks
		blocks.Set(0)
		patch, err := c.EncodePatch(nil, content, &blocks)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint32(len(content)), patch)
	}
	f.Fuzz(func(t *testing.T, raw uint32, patch []byte) {
		base := noise(7, int(raw%(1<<18)))
		was := bytes.Clone(base)
		out, err := d.ApplyPatch(nil, base, patch)
		if !bytes.Equal(base, was) {
			t.Fatal("the base was changed")
		}
		if err != nil {
			if !errors.Is(err, ErrEncoding) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if len(out) != len(base) {
			t.Fatalf("%d bytes of %d", len(out), len(base))
		}
		blocks, err := DiffBlocks(base, out)
		if err != nil {
			t.Fatal(err)
		}
		for i := range MaxBlocks {
			if blocks.Get(i) && patch[1+i/8]&(1<<(i%8)) == 0 {
				t.Fatalf("block %d changed and is not marked", i)
			}
		}
	})
}
