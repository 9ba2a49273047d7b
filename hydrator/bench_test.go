package hydrator

import (
	"bytes"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/openmigrate/openmigrate/chunker"
	"github.com/openmigrate/openmigrate/hydrator/hydratortest"
	"github.com/openmigrate/openmigrate/staging/format"
)

// benchImage compresses about two to one.
func benchImage(size int) []byte {
	r := mrand.New(mrand.NewPCG(60, 0))
	b := make([]byte, size)
	for i := 0; i < size; {
		n := min(200+r.IntN(2000), size-i)
		if r.IntN(3) == 0 {
			fillRandom(r, b[i:i+n])
		} else {
			copy(b[i:i+n], bytes.Repeat([]byte(fmt.Sprintf("%d lorem ipsum %x ", r.IntN(99), r.Uint32())), n/16+1))
		}
		i += n
	}
	return b
}

const benchSize = 512 << 20

// BenchmarkRestore is a restore over HTTP; BenchmarkRestoreLimit is the work that no restore can do without, from memory.
func BenchmarkRestore(b *testing.B) {
	w := hydratortest.NewWorld(b, nil)
	rp := w.Replicate(b, "r", hydratortest.Image{Data: benchImage(benchSize), ChunkSize: chunker.DefaultSize, PackSize: format.PackTarget})
	runtime.GC()
	b.SetBytes(benchSize)
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "disk")
		if _, err := restoreTo(b, w, rp, path, restoreOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = os.Remove(path)
		b.StartTimer()
	}
}

func BenchmarkRestoreLimit(b *testing.B) {
	keys := format.NewKeys()
	img := benchImage(benchSize)
	comp, err := chunker.NewCompressor()
	if err != nil {
		b.Fatal(err)
	}
	h := chunker.NewHasher(keys.ChunkKey())
	type stored struct {
		codec chunker.Codec
		id    chunker.ID
		data  []byte
	}
	var chunks []stored
	for i := 0; i < len(img); i += chunker.DefaultSize {
		data, codec := comp.Compress(nil, img[i:i+chunker.DefaultSize])
		chunks = append(chunks, stored{codec, h.ID(img[i : i+chunker.DefaultSize]), bytes.Clone(data)})
	}
	runtime.GC()
	b.SetBytes(benchSize)
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "disk")
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		var wg sync.WaitGroup
		cores := runtime.GOMAXPROCS(0)
		for n := range cores {
			wg.Go(func() {
				d, err := chunker.NewDecompressor()
				if err != nil {
					b.Error(err)
				}
				h := chunker.NewHasher(keys.ChunkKey())
				buf := make([]byte, 0, chunker.DefaultSize)
				for i := n; i < len(chunks); i += cores {
					c := &chunks[i]
					out, err := d.Decompress(buf, c.codec, c.data, chunker.DefaultSize)
					if err != nil || h.ID(out) != c.id {
						b.Errorf("chunk %d: %v", i, err)
					}
					if _, err := f.WriteAt(out, int64(i)*chunker.DefaultSize); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if err := f.Sync(); err != nil {
			b.Error(err)
		}
		if err := f.Close(); err != nil {
			b.Error(err)
		}
		b.StopTimer()
		_ = os.Remove(path)
		b.StartTimer()
	}
}
