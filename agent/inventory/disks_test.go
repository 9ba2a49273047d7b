package inventory

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// hostDisks gives the content of each block device of a host in testdata, by its kernel name.
type hostDisks map[string][]piece

// piece is a file of ../../internal/partition's testdata at an offset of a disk, or bytes that fn makes.
type piece struct {
	offset int64
	file   string
	fn     func() []byte
}

// The partition tables are those of ../../internal/partition/testdata: gpt512 has partitions at 1, 2 and 6 MiB; mbr has them from sectors
// 2048, 10240, 16384 (logical, LVM), 22528 and 32768.
var disks = map[string]hostDisks{
	"debian-virtio-lvm": {
		"vda":  {{0, "testdata/mbr.img.gz", nil}, {2048 * 512, "fsprobe/testdata/ext4.head.gz", nil}, {10240 * 512, "fsprobe/testdata/swap.head.gz", nil}, {16384 * 512, "fsprobe/testdata/lvm2.head.gz", nil}},
		"vdb":  {{0, "fsprobe/testdata/xfs.head.gz", nil}},
		"dm-0": {{0, "fsprobe/testdata/ext4.head.gz", nil}},
		"dm-1": {{0, "fsprobe/testdata/swap.head.gz", nil}},
	},
	"cloud-nvme-gpt": {
		"nvme0n1": {{0, "testdata/gpt512.img.gz", nil}, {2 << 20, "fsprobe/testdata/vfat32.head.gz", nil}, {6 << 20, "fsprobe/testdata/ext4.head.gz", nil}},
		"nvme1n1": {{0, "fsprobe/testdata/luks2.head.gz", nil}},
		"dm-0":    {{0, "fsprobe/testdata/btrfs.head.gz", nil}},
	},
	"metal-md-raid": {
		"sda":  {{0, "testdata/gpt512.img.gz", nil}, {6 << 20, "", mdMember}},
		"sdb":  {{0, "testdata/gpt512.img.gz", nil}, {6 << 20, "", mdMember}},
		"sdc":  {{0, "testdata/gpt512.img.gz", nil}, {6 << 20, "", mdMember}},
		"md0":  {{0, "fsprobe/testdata/xfs.head.gz", nil}},
		"dm-0": {},
	},
}

// mdMember is the superblock of version 1.2.
func mdMember() []byte {
	b := make([]byte, 4096+256)
	s := b[4096:]
	le := binary.LittleEndian
	le.PutUint32(s, 0xa92b4efc)
	le.PutUint32(s[4:], 1)
	copy(s[16:], "\xaa\xbb\xcc\xdd\x11\x22\x43\x33\x84\x44\x55\x55\x55\x55\x55\x55")
	copy(s[32:], "metal:0")
	le.PutUint64(s[144:], 8)
	return b
}

// open makes a device of 64 MiB: reads beyond what was put on it give zeros.
func (h hostDisks) open(_ context.Context, path string) (Device, error) {
	pieces, ok := h[filepath.Base(path)]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", path, os.ErrPermission)
	}
	image := make([]byte, 64<<20)
	for _, p := range pieces {
		b, err := p.bytes()
		if err != nil {
			return nil, err
		}
		copy(image[p.offset:], b)
	}
	return memory{bytes.NewReader(image)}, nil
}

func (p piece) bytes() ([]byte, error) {
	if p.fn != nil {
		return p.fn(), nil
	}
	f, err := os.Open("../../internal/partition/" + p.file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(z)
	return slices.Clip(b), err
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }
