package convert

import (
	"bytes"
	"errors"
	"slices"
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

func TestCpioNames(t *testing.T) {
	early, main := converttest.Archive("kernel/x86/microcode/GenuineIntel.bin"), converttest.Archive("init", "usr/lib/modules/6.1/kernel/nvme.ko.xz")
	for name, test := range map[string]struct {
		b    []byte
		want int
	}{
		"plain":          {main, 2},
		"gzip":           {converttest.Gzipped(main), 2},
		"zstd":           {zstandard(main), 2},
		"with microcode": {slices.Concat(early, make([]byte, 300), zstandard(main)), 3},
		"several plain":  {slices.Concat(early, main, make([]byte, 512)), 3},
		"empty":          {nil, 0},
	} {
		var got []string
		if err := cpioNames(bytes.NewReader(test.b), func(s string) { got = append(got, s) }); err != nil || len(got) != test.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, b := range map[string][]byte{
		"cut":        main[:len(main)-130],
		"cut zstd":   zstandard(main)[:20],
		"xz":         []byte("\xfd7zXZ\x00\x00"),
		"zip in zip": converttest.Gzipped(converttest.Gzipped(main)),
	} {
		err := cpioNames(bytes.NewReader(b), func(string) {})
		if err == nil || (name == "xz") != errors.Is(err, errCompression) && name != "zip in zip" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCpio(f *testing.F) {
	f.Add(converttest.Archive("init", "nvme.ko"))
	f.Add(converttest.Gzipped(converttest.Archive("a")))
	f.Add(zstandard(converttest.Archive("a")))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = cpioNames(bytes.NewReader(b), func(name string) { _ = moduleName(name) })
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
