package chunker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// frame is a hand-made zstd frame of RLE blocks (RFC 8878, 3.1.1), each of which repeats one byte size times. announced < 0: the
// header does not tell the content's length.
func frame(announced int64, blocks int, size uint32) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd}
	if announced < 0 {
		b = append(b, 0x00, 0x58) // window of 2 MiB
	} else {
		b = append(b, 0b1110_0000) // single segment, length in 8 bytes
		b = binary.LittleEndian.AppendUint64(b, uint64(announced))
	}
	for i := range blocks {
		h := size<<3 | 1<<1
		if i == blocks-1 {
			h |= 1
		}
		b = append(b, byte(h), byte(h>>8), byte(h>>16), 0x11)
	}
	return b
}

// fenced holds a destination and what lies behind it, which nothing may touch.
type fenced struct{ all, clean []byte }

func newFenced(size int) *fenced {
	return &fenced{all: make([]byte, size), clean: bytes.Repeat([]byte{0xa5}, size)}
}

// within returns a destination of that capacity.
func (f *fenced) within(capacity int) []byte {
	copy(f.all, f.clean)
	return f.all[:0:capacity]
}

// check fails when a byte from limit on was written.
func (f *fenced) check(t *testing.T, what string, limit int) {
	t.Helper()
	if !bytes.Equal(f.all[limit:], f.clean[limit:]) {
		t.Fatalf("%s: bytes behind the destination were written", what)
	}
}

// TestDecompressKeepsToItsDestination gives the decoder input that holds more than announced, in destinations with
// all, some and no room behind the content.
func TestDecompressKeepsToItsDestination(t *testing.T) {
	d, err := NewDecompressor()
	if err != nil {
		t.Fatal(err)
	}
	const raw, behind = 64 << 10, 256 << 10
	inputs := map[string][]byte{
		"bomb":                       frame(-1, 200, 128<<10),
		"bomb that announces little": frame(raw, 200, 128<<10),
		"bomb that announces much":   frame(200*(128<<10), 200, 128<<10),
		"lie of a terabyte":          frame(1<<40, 1, raw),
		"one block too many":         frame(raw, 3, raw/2),
		"one byte too many":          frame(-1, raw+1, 1),
		"slack":                      frame(-1, 1, raw+Slack),
		"slack and one":              frame(-1, 1, raw+Slack+1),
		"two frames":                 append(frame(raw, 1, raw), frame(raw, 1, raw)...),
		"raw too long":               bytes.Repeat([]byte{1}, raw+Slack+1),
	}
	c, err := NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 0, 2*raw)
	for i := 0; len(text) < 2*raw; i++ {
		text = fmt.Appendf(text, "row %d of a table\n", i*i)
	}
	good, codec := c.Compress(nil, text[:raw])
	if codec != Zstd {
		t.Fatal("text is stored raw")
	}
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 200 {
		bad := bytes.Clone(good)
		for range 1 + r.IntN(3) {
			bad[r.IntN(min(len(bad), 1<<(4+i%12)))] ^= 1 << r.IntN(8)
		}
		inputs[fmt.Sprintf("damage %d", i)] = bad
	}
	long, _ := c.Compress(nil, text)
	inputs["twice as long"] = bytes.Clone(long)

	f := newFenced(raw + behind)
	for name, in := range inputs {
		for _, capacity := range []int{raw, raw + 1, raw + Slack, raw + Slack + 1, raw + behind} {
			for _, codec := range []Codec{Raw, Zstd, Patch} {
				out, err := d.Decompress(f.within(capacity), codec, in, raw)
				what := fmt.Sprintf("%s, codec %d, destination of %d", name, codec, capacity)
				if err == nil && len(out) != raw || err != nil && !errors.Is(err, ErrEncoding) {
					t.Errorf("%s: %d bytes, %v", what, len(out), err)
				}
				f.check(t, what, min(capacity, raw+Slack))
			}
		}
	}
	if out, err := d.Decompress(f.within(raw+Slack), Zstd, frame(raw, 2, raw/2), raw); err != nil || !bytes.Equal(out, bytes.Repeat([]byte{0x11}, raw)) {
		t.Errorf("the hand-made frame is not one: %v", err)
	}
}
