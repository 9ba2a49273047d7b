package chunker

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Codec says how content is encoded.
type Codec uint8

// Codecs. Their numbers are part of the format.
const (
	Raw   Codec = 0 // as it is
	Zstd  Codec = 1 // one zstd frame without checksum: sealing authenticates it
	Patch Codec = 2 // the 4 KiB blocks that differ from another chunk, see EncodePatch
)

// ErrEncoding marks encoded content that does not decode to exactly what was announced.
var ErrEncoding = errors.New("encoding is damaged")

// Compressor encodes chunks. It belongs to one goroutine.
type Compressor struct {
	e      *zstd.Encoder
	blocks []byte // of a patch
}

// NewCompressor makes a Compressor at the library's fastest level: the next one saves 4 % and costs a fifth to two fifths of the speed.
// MB in a second of one core, and ratio, by BenchmarkOptions on 256 MiB of /usr/lib and /usr/bin (2026-11-23, median of three, 2 cores of a
// shared VM that others used meanwhile):
//
//	chunk       raw              fastest      default
//	  64 KiB    10,600  1.00     159  2.39    128  2.49
//	 256 KiB    10,600  1.00     198  2.50    127  2.60
//	1024 KiB     9,100  1.00     265  2.59    162  2.70
func NewCompressor() (*Compressor, error) { return newCompressor(zstd.SpeedFastest) }

func newCompressor(level zstd.EncoderLevel) (*Compressor, error) {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(MaxSize), zstd.WithSingleSegment(true), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		return nil, fmt.Errorf("make compressor: %w", err)
	}
	return &Compressor{e: e}, nil
}

// Compress encodes src. With Zstd the result is in dst's memory, grown if it must be (cap 1.01 × len(src) + 64 is enough);
// with Raw it is src itself, not copied. Content is stored raw unless compression saves a thirty-second of it.
func (c *Compressor) Compress(dst, src []byte) ([]byte, Codec) {
	if incompressible(src) {
		return src, Raw
	}
	out := c.e.EncodeAll(src, dst[:0])
	if len(out) > len(src)-len(src)/32 {
		return src, Raw
	}
	return out, Zstd
}

// incompressible guesses from a histogram of sampled bytes whether src is already compressed or encrypted: then its bytes are
// close to evenly spread. It looks at 4 KiB in eight places and errs towards trying: of 100 chunks of 256 KiB it gives up 0.8 that
// would be worth compressing and lets 5.3 through in vain, for 5 to 18 µs where compressing takes 1,300 (BenchmarkIncompressible).
func incompressible(src []byte) bool {
	const places, span = 8, 512
	if len(src) < 2*places*span {
		return false
	}
	var seen [256]uint16
	for p := range places {
		off := p * ((len(src) - span) / (places - 1))
		for _, b := range src[off : off+span] {
			seen[b]++
		}
	}
	// Sum of squares of the counts: for n even bytes its mean is n²/256 + n; structured data is far above.
	const n = places * span
	var sum uint64
	for _, k := range seen {
		sum += uint64(k) * uint64(k)
	}
	return sum < n*n/256+n+n/2
}

// Decompressor decodes chunks. It belongs to one goroutine.
type Decompressor struct {
	d      *zstd.Decoder
	blocks []byte // of a patch
}

// NewDecompressor makes a Decompressor that never holds more than MaxSize of content.
func NewDecompressor() (*Decompressor, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxSize),
		zstd.WithDecoderMaxWindow(MaxSize), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make decompressor: %w", err)
	}
	return &Decompressor{d: d}, nil
}

// Slack is how many bytes more than its content a buffer should hold to be decompressed into: with it the decoder may write
// whole words and is faster.
const Slack = 64

// Decompress decodes src to exactly raw bytes, into dst's memory where it has room. It returns ErrEncoding otherwise and
// never writes past raw+Slack bytes or dst's capacity, whatever src claims.
func (d *Decompressor) Decompress(dst []byte, c Codec, src []byte, raw int) ([]byte, error) {
	if raw < 0 || raw > MaxSize {
		return nil, fmt.Errorf("%w: %d raw bytes, limit %d", ErrEncoding, raw, MaxSize)
	}
	if cap(dst) < raw {
		dst = make([]byte, 0, raw+Slack)
	}
	switch c {
	case Raw:
		if len(src) != raw {
			return nil, fmt.Errorf("%w: %d bytes, announced %d", ErrEncoding, len(src), raw)
		}
		return append(dst[:0], src...), nil
	case Zstd:
		out, err := d.d.DecodeAll(src, dst[:0:min(cap(dst), raw+Slack)])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEncoding, err)
		}
		if len(out) != raw {
			return nil, fmt.Errorf("%w: %d bytes, announced %d", ErrEncoding, len(out), raw)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: unknown codec %d", ErrEncoding, c)
}
