package source_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source"
)

// BenchmarkReadAt reads a file that is in the page cache, as the cycle does: aligned, in pieces of 256 KiB and 1 MiB.
func BenchmarkReadAt(b *testing.B) {
	path := filepath.Join(b.TempDir(), "disk.raw")
	const size = 64 << 20
	image := make([]byte, size)
	for i := range image {
		image[i] = byte(i >> 12)
	}
	if err := os.WriteFile(path, image, 0o600); err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]struct {
		mode  source.Mode
		piece int
	}{
		"auto/256KiB": {source.Auto, 256 << 10}, "auto/1MiB": {source.Auto, 1 << 20},
		"off/1MiB": {source.Off, 1 << 20}, "direct/1MiB": {source.On, 1 << 20},
	} {
		b.Run(name, func(b *testing.B) {
			s, err := source.New(path, &source.Options{Direct: c.mode})
			if err != nil {
				b.Fatal(err)
			}
			r, err := s.Open(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			buf := source.AlignedBuffer(c.piece)
			b.SetBytes(int64(c.piece))
			b.ReportAllocs()
			var off int64
			for b.Loop() {
				if _, err := r.ReadAt(buf, off); err != nil {
					b.Fatal(err)
				}
				if off += int64(c.piece); off == size {
					off = 0
				}
			}
		})
	}
}
