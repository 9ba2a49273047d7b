package chunker

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	corpusSize  = 256 << 20 // bytes
	corpusPiece = MaxSize   // bytes that are taken in one go
)

// corpus is a sample of this machine's programs and libraries: the files of /usr/lib and /usr/bin one after another, each padded to
// whole blocks as on a disk, of which evenly spaced pieces are taken.
var corpus = sync.OnceValues(func() ([]byte, error) {
	const block = 4 << 10
	type file struct {
		name string
		size int64
	}
	var files []file
	var total int64
	for _, dir := range []string{"/usr/bin", "/usr/lib"} {
		err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			files = append(files, file{name, info.Size()})
			total += (info.Size() + block - 1) / block * block
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	step := max(total/(corpusSize/corpusPiece), corpusPiece)
	out := make([]byte, 0, corpusSize)
	var start int64 // of the file, in the row of all
	for _, f := range files {
		end := start + (f.size+block-1)/block*block
		r, err := os.Open(f.name)
		if err != nil {
			return nil, err
		}
		for pos := start; pos < end && len(out) < corpusSize; {
			in := pos % step // position in the piece
			if in >= corpusPiece {
				pos += step - in
				continue
			}
			part := make([]byte, min(end-pos, corpusPiece-in))
			if _, err := r.ReadAt(part, pos-start); err != nil && err != io.EOF {
				return nil, err
			}
			out = append(out, part...)
			pos += int64(len(part))
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
		start = end
	}
	return out[:len(out)/corpusPiece*corpusPiece], nil
})

func benchCorpus(b *testing.B) []byte {
	b.Helper()
	c, err := corpus()
	if err != nil {
		b.Fatal(err)
	}
	if len(c) == 0 {
		b.Fatalf("/usr/bin and /usr/lib hold less than %d bytes", corpusPiece)
	}
	return c
}

// processorTime is what this process has used so far: unlike the clock's, it does not count who else uses the machine.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOptions measures the ways to encode chunks: speed, also by the time of one core that it takes, and how many raw bytes make
// one stored byte.
//
//	go test -run '^$' -bench 'Options|Incompressible' -benchtime 3x ./chunker
func BenchmarkOptions(b *testing.B) {
	content := benchCorpus(b)
	dst := make([]byte, 0, 2*MaxSize)
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20} {
		run := func(name string, encode func(chunk []byte) int) {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(content)))
				stored, start := 0, processorTime(b)
				for b.Loop() {
					stored = 0
					for i := 0; i < len(content); i += size {
						stored += encode(content[i : i+size])
					}
				}
				b.ReportMetric(float64(len(content))/float64(stored), "ratio")
				b.ReportMetric(float64(b.N)*float64(len(content))/1e6/(processorTime(b)-start).Seconds(), "MB/core-s")
			})
		}
		run("raw", func(chunk []byte) int { return len(append(dst[:0], chunk...)) })
		for name, level := range map[string]zstd.EncoderLevel{"fastest": zstd.SpeedFastest, "default": zstd.SpeedDefault} {
			c, err := newCompressor(level)
			if err != nil {
				b.Fatal(err)
			}
			run(name, func(chunk []byte) int {
				out, _ := c.Compress(dst, chunk)
				return len(out)
			})
		}
	}
}

// BenchmarkIncompressible measures the guess that saves compression in vain: its cost for each chunk, of 100 chunks how many it gives up
// although compression saves enough (false+), and how many it lets through in vain (false-).
func BenchmarkIncompressible(b *testing.B) {
	content := benchCorpus(b)
	e, err := newCompressor(zstd.SpeedFastest)
	if err != nil {
		b.Fatal(err)
	}
	var chunks, wrong, vain float64
	for i := 0; i < len(content); i += DefaultSize {
		chunk := content[i : i+DefaultSize]
		worth := len(e.e.EncodeAll(chunk, nil)) <= len(chunk)-len(chunk)/32
		guess := incompressible(chunk)
		chunks++
		if guess && worth {
			wrong++
		}
		if !guess && !worth {
			vain++
		}
	}
	i := 0
	for b.Loop() {
		incompressible(content[i : i+DefaultSize])
		i = (i + DefaultSize) % len(content)
	}
	b.ReportMetric(100*wrong/chunks, "false+")
	b.ReportMetric(100*vain/chunks, "false-")
}
