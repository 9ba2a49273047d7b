package chunker

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
)

func TestLayout(t *testing.T) {
	for _, c := range []struct {
		size   int64
		chunk  int
		chunks int64
		last   int
	}{
		{0, MinSize, 0, 0}, {1, MinSize, 1, 1}, {MinSize, MinSize, 1, MinSize},
		{MinSize + 512, MinSize, 2, 512}, {1 << 40, DefaultSize, 1 << 22, DefaultSize},
	} {
		l := Layout{c.size, c.chunk}
		if err := l.Check(); err != nil || l.Chunks() != c.chunks {
			t.Errorf("%+v: %d chunks, %v; want %d", l, l.Chunks(), err, c.chunks)
		}
		if c.chunks > 0 {
			if off, n := l.Extent(c.chunks - 1); n != c.last || off+int64(n) != c.size {
				t.Errorf("%+v: last chunk at %d, %d bytes; want %d", l, off, n, c.last)
			}
		}
	}
	for _, l := range []Layout{{-1, MinSize}, {1, 1000}, {1, MaxSize * 2}, {1, MinSize / 2}, {(MaxChunks + 1) * MinSize, MinSize}} {
		if !errors.Is(l.Check(), ErrLayout) {
			t.Errorf("%+v is accepted", l)
		}
	}
	if SizeFor(4<<40) != DefaultSize || SizeFor(4<<40+1) != LargeSize {
		t.Error("SizeFor changes at another size than 4 TiB")
	}
}

func TestIsZero(t *testing.T) {
	for _, n := range []int{0, 1, 7, 8, 15, 16, 17, 4096, 64<<10 - 1, 64 << 10, 64<<10 + 1, 256 << 10} {
		b := make([]byte, n)
		if !IsZero(b) {
			t.Errorf("%d zero bytes are not zero", n)
		}
		for _, at := range []int{0, 1, n / 2, n - 9, n - 1} {
			if at < 0 || at >= n {
				continue
			}
			b[at] = 1
			if IsZero(b) {
				t.Errorf("%d bytes with one set at %d are zero", n, at)
			}
			b[at] = 0
		}
	}
}

func TestIDIsKeyedBLAKE3(t *testing.T) {
	key := Key{1, 2, 3}
	content := bytes.Repeat([]byte("content"), 1000)
	ref, err := blake3.NewKeyed(key[:])
	if err != nil {
		t.Fatal(err)
	}
	_, _ = ref.Write(content)
	h := NewHasher(&key)
	for range 2 { // a Hasher is used again and again
		if id := h.ID(content); !bytes.Equal(id[:], ref.Sum(nil)) {
			t.Errorf("ID = %s, want %x", id, ref.Sum(nil))
		}
	}
	if NewHasher(&Key{9}).ID(content) == h.ID(content) {
		t.Error("two keys give one id")
	}
	if h.ID(make([]byte, 1000)) != Zero || h.ID(nil) != Zero {
		t.Error("zeros do not have the zero id")
	}
	if id, err := ParseID(h.ID(content).String()); err != nil || id != h.ID(content) {
		t.Errorf("ParseID: %v", err)
	}
	text := ID{0xab, 31: 0xcd}.String()
	for _, s := range []string{"", "xyz", strings.ToUpper(text), text[1:], text + "0", " " + text[1:], "x" + text[1:], strings.Repeat("\n", 64)} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %s", s, id)
		}
	}
}

func TestCompressRoundTrip(t *testing.T) {
	c, err := NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, DefaultSize)
	_, _ = rand.Read(random)
	mixed := append(bytes.Clone(random[:DefaultSize/2]), make([]byte, DefaultSize/2)...)
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]struct {
		content []byte
		codec   Codec
	}{
		"text":        {bytes.Repeat([]byte("all work and no play "), 12000), Zstd},
		"random":      {random, Raw},
		"mixed":       {mixed, Zstd},
		"program":     {program[1<<20 : 1<<20+DefaultSize], Zstd},
		"hexadecimal": {[]byte(fmt.Sprintf("%x", random)), Zstd},
		"tiny":        {[]byte{1}, Raw},
	} {
		enc, codec := c.Compress(make([]byte, 0, DefaultSize), v.content)
		if codec != v.codec {
			t.Errorf("%s: codec %d, want %d", name, codec, v.codec)
		}
		got, err := d.Decompress(nil, codec, enc, len(v.content))
		if err != nil || !bytes.Equal(got, v.content) {
			t.Errorf("%s does not come back: %v", name, err)
		}
		for _, raw := range []int{len(v.content) - 1, len(v.content) + 1, 0, -1, MaxSize + 1} {
			if _, err := d.Decompress(nil, codec, enc, raw); !errors.Is(err, ErrEncoding) {
				t.Errorf("%s with %d announced of %d: %v, want ErrEncoding", name, raw, len(v.content), err)
			}
		}
	}
	if _, err := d.Decompress(nil, Patch, []byte{1}, 1); !errors.Is(err, ErrEncoding) {
		t.Errorf("a reserved codec: %v", err)
	}
}

func TestNoAllocationPerChunk(t *testing.T) {
	c, _ := NewCompressor()
	h := NewHasher(&Key{1})
	d, _ := NewDecompressor()
	content := bytes.Repeat([]byte("all work and no play "), 12000)
	dst, back := make([]byte, 0, 2*len(content)), make([]byte, 0, len(content))
	enc, codec := c.Compress(nil, content)
	enc = bytes.Clone(enc)
	for name, f := range map[string]func(){
		"zero test":  func() { IsZero(content) },
		"hash":       func() { h.ID(content) },
		"compress":   func() { c.Compress(dst, content) },
		"decompress": func() { _, _ = d.Decompress(back, codec, enc, len(content)) },
	} {
		// The fewest of several calls: under the race detector the pools that the decoder uses forget at random what they hold.
		fewest := testing.AllocsPerRun(1, f)
		for range 30 {
			fewest = min(fewest, testing.AllocsPerRun(1, f))
		}
		if fewest > 0 {
			t.Errorf("%s allocates %v times per chunk", name, fewest)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	c, _ := NewCompressor()
	enc, _ := c.Compress(nil, bytes.Repeat([]byte("seed"), 5000))
	f.Add(uint8(Zstd), enc, 20000)
	f.Add(uint8(Raw), []byte("abc"), 3)
	f.Add(uint8(Patch), []byte{}, 1)
	d, _ := NewDecompressor()
	f.Fuzz(func(t *testing.T, codec uint8, b []byte, raw int) {
		out, err := d.Decompress(nil, Codec(codec), b, raw)
		if err == nil && len(out) != raw {
			t.Errorf("%d bytes, announced %d", len(out), raw)
		}
		if err != nil && !errors.Is(err, ErrEncoding) {
			t.Errorf("error %v is not ErrEncoding", err)
		}
	})
}

func benchContent(b *testing.B) []byte {
	b.Helper()
	p, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		b.Fatal(err)
	}
	return p[1<<20 : 1<<20+DefaultSize]
}

func BenchmarkIsZero(b *testing.B) {
	z := make([]byte, DefaultSize)
	b.SetBytes(DefaultSize)
	for b.Loop() {
		IsZero(z)
	}
}

func BenchmarkHash(b *testing.B) {
	c, h := benchContent(b), NewHasher(&Key{1})
	b.SetBytes(DefaultSize)
	for b.Loop() {
		h.NonZeroID(c)
	}
}

func BenchmarkCompress(b *testing.B) {
	c := benchContent(b)
	e, _ := NewCompressor()
	dst := make([]byte, 0, 2*DefaultSize)
	b.SetBytes(DefaultSize)
	for b.Loop() {
		e.Compress(dst, c)
	}
}

func BenchmarkCompressRandom(b *testing.B) {
	c := make([]byte, DefaultSize)
	_, _ = rand.Read(c)
	e, _ := NewCompressor()
	dst := make([]byte, 0, 2*DefaultSize)
	b.SetBytes(DefaultSize)
	for b.Loop() {
		e.Compress(dst, c)
	}
}

func BenchmarkDecompress(b *testing.B) {
	c := benchContent(b)
	e, _ := NewCompressor()
	d, _ := NewDecompressor()
	enc, codec := e.Compress(make([]byte, 0, 2*DefaultSize), c)
	for name, room := range map[string]int{"slack": Slack, "tight": 0} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, DefaultSize+room)
			b.SetBytes(DefaultSize)
			for b.Loop() {
				if _, err := d.Decompress(dst, codec, enc, len(c)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
