package convert

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/openmigrate/openmigrate/hydrator/convert/converttest"
)

func zstandard(b []byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = z.Close() }()
	return z.EncodeAll(b, nil)
}

func TestReadCpio(t *testing.T) {
	early, main := converttest.Archive("kernel/x86/microcode/GenuineIntel.bin"), converttest.Archive("init", "usr/lib/modules/6.1/kernel/nvme.ko.xz")
	for name, test := range map[string]struct {
		b    []byte
		want int
		how  compression
	}{
		"plain":           {main, 2, cpioPlain},
		"gzip":            {converttest.Gzipped(main), 2, cpioGzip},
		"zstd":            {zstandard(main), 2, cpioZstd},
		"with microcode":  {slices.Concat(early, make([]byte, 300), zstandard(main)), 3, cpioZstd},
		"several plain":   {slices.Concat(early, main, make([]byte, 512)), 3, cpioPlain},
		"behind gzip":     {slices.Concat(early, converttest.Gzipped(main), make([]byte, 3), converttest.Gzipped(early)), 4, cpioGzip},
		"behind zstd":     {slices.Concat(zstandard(main), zstandard(early), make([]byte, 2), main), 5, cpioPlain},
		"two in one zstd": {zstandard(slices.Concat(early, make([]byte, 12), main)), 3, cpioZstd},
		"empty":           {nil, 0, cpioPlain},
	} {
		var got []string
		how, err := readCpio(bytes.NewReader(test.b), func(e cpioEntry, r io.Reader) error {
			got = append(got, e.name)
			if len(got) == 1 {
				return nil // unread
			}
			b, err := io.ReadAll(r)
			if string(b) != "12345" || e.size != 5 || e.mode != 0o100644 || e.links != 1 {
				t.Errorf("%s: %+v holds %q", name, e, b)
			}
			return err
		})
		if err != nil || len(got) != test.want || how != test.how {
			t.Errorf("%s: %q by %q, %v", name, got, how, err)
		}
	}
	for name, b := range map[string][]byte{
		"cut":          main[:len(main)-130],
		"cut zstd":     zstandard(main)[:20],
		"xz":           []byte("\xfd7zXZ\x00\x00"),
		"xz behind":    slices.Concat(main, []byte("\xfd7zXZ\x00\x00")),
		"zip in zip":   converttest.Gzipped(converttest.Gzipped(main)),
		"never ending": bytes.Repeat(main, maxArchives+1),
	} {
		_, err := readCpio(bytes.NewReader(b), func(cpioEntry, io.Reader) error { return nil })
		if err == nil || strings.HasPrefix(name, "xz") != errors.Is(err, errCompression) && name != "zip in zip" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A frame ends where the encoder ended it, however it was made, and what follows is left to others.
func TestFrame(t *testing.T) {
	random := make([]byte, 300<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	for _, content := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte("ab"), 200), random, make([]byte, 5<<20), slices.Concat(random, make([]byte, 1<<20), random)} {
		for _, options := range [][]zstd.EOption{
			nil, {zstd.WithEncoderCRC(false)}, {zstd.WithSingleSegment(true)}, {zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1 << 20)},
		} {
			z, err := zstd.NewWriter(nil, options...)
			if err != nil {
				t.Fatal(err)
			}
			packed := z.EncodeAll(content, nil)
			var stream bytes.Buffer // its size is not known to the header
			z.Reset(&stream)
			_, err = z.Write(content)
			if err := errors.Join(err, z.Close()); err != nil {
				t.Fatal(err)
			}
			for _, b := range [][]byte{packed, stream.Bytes()} {
				if len(b) == 0 {
					continue
				}
				r := bufio.NewReader(bytes.NewReader(append(slices.Clone(b), "what follows"...)))
				got, err := io.ReadAll(&frame{r: r})
				rest, _ := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, b) || string(rest) != "what follows" {
					t.Errorf("%d bytes: %d of %d, then %.20q: %v", len(content), len(got), len(b), rest, err)
				}
				if len(b) > 20 {
					if _, err := io.ReadAll(&frame{r: bufio.NewReader(bytes.NewReader(b[:len(b)-1]))}); !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("cut: %v", err)
					}
				}
			}
		}
	}
}

func FuzzCpio(f *testing.F) {
	f.Add(converttest.Archive("init", "nvme.ko"))
	f.Add(converttest.Gzipped(converttest.Archive("a")))
	f.Add(slices.Concat(zstandard(converttest.Archive("a")), converttest.Archive("b")))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseArchive(bytes.NewReader(b))
		if err != nil {
			return
		}
		for name := range a.modes {
			if real, err := a.real(name); err == nil && (strings.HasPrefix(real, "/") || strings.HasPrefix(real, "..")) {
				t.Errorf("%q leads to %q", name, real)
			}
		}
	})
}

func TestModuleName(t *testing.T) {
	for file, want := range map[string]string{
		"kernel/drivers/block/virtio_blk.ko": "virtio_blk", "a/virtio-pci.ko.zst": "virtio_pci", "nvme.ko.xz": "nvme", "init": "", "x.kox": "", "lib.kong/readme": "",
	} {
		if got := moduleName(file); got != want {
			t.Errorf("%s: %q", file, got)
		}
	}
}
