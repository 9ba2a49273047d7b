package source_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/openmigrate/openmigrate/agent/source"
	"github.com/openmigrate/openmigrate/agent/source/sourcetest"
)

// writeImage makes a file that holds image, with holes where it is zero.
func writeImage(t *testing.T, image []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := f.Truncate(int64(len(image))); err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 4096)
	for off := 0; off < len(image); off += 4096 {
		b := image[off:min(off+4096, len(image))]
		if string(b) == string(zero[:len(b)]) {
			continue
		}
		if _, err := f.WriteAt(b, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func newSource(t *testing.T, path string, mode source.Mode) source.Source {
	t.Helper()
	s, err := source.New(path, &source.Options{Direct: mode})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFile(t *testing.T) {
	for name, mode := range map[string]source.Mode{"auto": source.Auto, "direct": source.On, "buffered": source.Off} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Harness{Sparse: true, New: func(t *testing.T, image []byte) sourcetest.Made {
				path := writeImage(t, image)
				return sourcetest.Made{
					Source:  newSource(t, path, mode),
					Resize:  func(size int64) error { return os.Truncate(path, size) },
					Replace: func() error { return os.Rename(writeImage(t, image), path) },
					Remove:  func() error { return os.Remove(path) },
				}
			}})
		})
	}
}

func TestMemory(t *testing.T) {
	n := 0
	fresh := func(image []byte) *sourcetest.Memory {
		n++
		return sourcetest.NewMemory("m"+string(rune('0'+n)), image)
	}
	t.Run("plain", func(t *testing.T) {
		n = 0
		sourcetest.Run(t, sourcetest.Harness{Sparse: true, New: func(_ *testing.T, image []byte) sourcetest.Made {
			m := fresh(image)
			return sourcetest.Made{Source: m, Resize: m.Resize, Remove: m.Remove}
		}})
	})
	t.Run("under a wrapper without faults", func(t *testing.T) {
		n = 0
		sourcetest.Run(t, sourcetest.Harness{Sparse: true, New: func(_ *testing.T, image []byte) sourcetest.Made {
			m := fresh(image)
			return sourcetest.Made{Source: &sourcetest.Faulty{Source: m}, Resize: m.Resize, Remove: m.Remove}
		}})
	})
}
