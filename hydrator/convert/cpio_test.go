package convert

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// archive is a cpio archive of empty files.
func archive(names ...string) []byte {
	var b bytes.Buffer
	for _, name := range append(names, "TRAILER!!!") {
		content := ""
		if name != "TRAILER!!!" {
			content = "12345"
		}
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", 1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, (4-b.Len()%4)%4))
		b.WriteString(content)
		b.Write(make([]byte, (4-b.Len()%4)%4))
	}
	return b.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func zstandard(b []byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = z.Close() }()
	return z.EncodeAll(b, nil)
}

func TestCpioNames(t *testing.T) {
	early, main := archive("kernel/x86/microcode/GenuineIntel.bin"), archive("init", "usr/lib/modules/6.1/kernel/nvme.ko.xz")
	for name, test := range map[string]struct {
		b    []byte
		want int
	}{
		"plain":          {main, 2},
		"gzip":           {gzipped(main), 2},
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
		"zip in zip": gzipped(gzipped(main)),
	} {
		err := cpioNames(bytes.NewReader(b), func(string) {})
		if err == nil || (name == "xz") != errors.Is(err, errCompression) && name != "zip in zip" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCpio(f *testing.F) {
	f.Add(archive("init", "nvme.ko"))
	f.Add(gzipped(archive("a")))
	f.Add(zstandard(archive("a")))
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
