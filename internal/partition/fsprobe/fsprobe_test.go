package fsprobe

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testUUID = "11111111-2222-4333-8444-555555555555"

// head reads the first bytes of a file system that its own mkfs made; UUIDs and labels below are what blkid says of it.
func head(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".head.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var known = map[string]Content{
	"ext2":   {"ext2", testUUID, "old"},
	"ext3":   {"ext3", testUUID, "three"},
	"ext4":   {"ext4", testUUID, "root-é"},
	"xfs":    {"xfs", testUUID, "data"},
	"btrfs":  {"btrfs", testUUID, "pool"},
	"swap":   {"swap", testUUID, "swp"},
	"vfat16": {"vfat", "1234-ABCD", ""},
	"vfat32": {"vfat", "1234-ABCD", "EFI"},
	"ntfs":   {"ntfs", "1334413C4E9F6F49", ""},
	"luks1":  {"luks1", testUUID, ""},
	"luks2":  {"luks2", testUUID, "secret"},
	"lvm2":   {"lvm2", "abcdef-abcd-abcd-abcd-abcd-abcd-abcdef", ""},
}

func TestProbeWhatMkfsWrote(t *testing.T) {
	for name, want := range known {
		b := head(t, name)
		got, err := Probe(bytes.NewReader(b), int64(len(b)))
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
}

// mdMember is a device of 1 MiB with an md superblock: minor 0, 1 or 2 of version 1, or 90 for 0.90.
func mdMember(minor int) []byte {
	b := make([]byte, 1<<20)
	copy(b, head0) // what an array with its superblock at the end shows
	off := map[int]int{0: 1<<20 - 8<<10, 1: 0, 2: 4096, 90: 1<<20 - 64<<10}[minor]
	le, s := binary.LittleEndian, b[off:]
	le.PutUint32(s, mdMagic)
	if minor == 90 {
		le.PutUint32(s[8:], 90)
		copy(s[20:24], "\x11\x11\x11\x11")
		copy(s[52:64], "\x22\x22\x43\x33\x84\x44\x55\x55\x55\x55\x55\x55")
		return b
	}
	le.PutUint32(s[4:], 1)
	copy(s[16:32], "\x11\x11\x11\x11\x22\x22\x43\x33\x84\x44\x55\x55\x55\x55\x55\x55")
	copy(s[32:], "host:0")
	le.PutUint64(s[144:], uint64(off)/512)
	return b
}

var head0 []byte

func TestProbeMD(t *testing.T) {
	head0 = head(t, "ext4")
	for minor, label := range map[int]string{0: "host:0", 1: "host:0", 2: "host:0", 90: ""} {
		b := mdMember(minor)
		got, err := Probe(bytes.NewReader(b), int64(len(b)))
		if want := (Content{"md", testUUID, label}); err != nil || got != want {
			t.Errorf("md of version %d: %+v, %v; want %+v", minor, got, err, want)
		}
	}
	b := mdMember(2)
	binary.LittleEndian.PutUint64(b[4096+144:], 0) // a copy of a superblock that belongs elsewhere
	if got, err := Probe(bytes.NewReader(b), int64(len(b))); err != nil || got.Type != "ext4" {
		t.Errorf("a superblock in the wrong place: %+v, %v", got, err)
	}
}

func TestProbeFindsNone(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, make([]byte, 511), make([]byte, 1<<20), bytes.Repeat([]byte("x"), 1<<17)} {
		if got, err := Probe(bytes.NewReader(b), int64(len(b))); err != nil || got != (Content{}) {
			t.Errorf("%d bytes: %+v, %v", len(b), got, err)
		}
	}
	if _, err := Probe(failing{}, 1<<20); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a read error gives %v", err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

func TestReadVolumeGroup(t *testing.T) {
	b := head(t, "lvm2")
	size := int64(8 << 20)
	want := VolumeGroup{Name: "vg0", UUID: "vFCO4k-Nl11-noBr-Jv8Q-ZHLD-4xmq-xPCE2E", LogicalVolumes: []string{"root", "swap_1"}}
	got, err := ReadVolumeGroup(bytes.NewReader(b), size)
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}

	damaged := bytes.Clone(b)
	damaged[bytes.Index(b, []byte("swap_1"))]++
	if _, err := ReadVolumeGroup(bytes.NewReader(damaged), size); err != nil {
		t.Errorf("damage to an older copy gives %v", err)
	}
	damaged = bytes.Clone(b)
	damaged[bytes.LastIndex(b, []byte("swap_1"))]++
	if got, err := ReadVolumeGroup(bytes.NewReader(damaged), size); err != nil || got.Name != "" {
		t.Errorf("metadata with a wrong checksum gives %+v, %v", got, err)
	}
	damaged = bytes.Clone(b)
	damaged[512+16]++
	if _, err := ReadVolumeGroup(bytes.NewReader(damaged), size); err == nil {
		t.Error("a label with a wrong checksum gives no error")
	}
}

func TestParseMetadata(t *testing.T) {
	for doc, want := range map[string]VolumeGroup{
		``:                                       {},
		`vg {`:                                   {Name: "vg"},
		`# vg0 {` + "\n" + `vg1 { id = "a\"b" }`: {Name: "vg1", UUID: `a"b`},
		`vg { s = "x { id = 1 }" logical_volumes { a { id = "q" } b { c { } } } } other { }`: {Name: "vg", LogicalVolumes: []string{"a", "b"}},
		`}}} vg { id = "unfinished`: {Name: "vg", UUID: "unfinished"},
	} {
		if got := parseMetadata([]byte(doc)); !cmp.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", doc, got, want)
		}
	}
}

func FuzzProbe(f *testing.F) {
	for name := range known {
		b := head(f, name)
		f.Add(b[:min(len(b), 16<<10)], []byte{})
	}
	f.Add([]byte{}, mdMember(90)[1<<20-64<<10:])
	f.Fuzz(func(t *testing.T, start, end []byte) {
		b := append(bytes.Clone(start), make([]byte, 128<<10)...)
		b = append(b, end...)
		c, err := Probe(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if len(c.UUID) > 64 || len(c.Label) > 1024 {
			t.Fatalf("%+v", c)
		}
		if _, err := ReadVolumeGroup(bytes.NewReader(b), int64(len(b))); err != nil && c.Type == "lvm2" {
			t.Fatal(err)
		}
	})
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte(`vg { id = "x" # c` + "\n" + ` logical_volumes { a { } } }`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if vg := parseMetadata(doc); len(vg.LogicalVolumes) > maxLVs || len(vg.Name) > 512 {
			t.Fatalf("%+v", vg)
		}
	})
}
