package partition

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var images = map[string][]byte{}

// image gives a copy of a disk that sfdisk made.
func image(t testing.TB, name string) []byte {
	t.Helper()
	if images[name] == nil {
		images[name] = unpack(t, name)
	}
	return bytes.Clone(images[name])
}

func unpack(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".img.gz")
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

func read(b []byte, sector int) (*Table, error) {
	return Read(bytes.NewReader(b), int64(len(b)), sector)
}

var wantGPT512 = &Table{
	Scheme: GPT, ID: "11223344-5566-4788-99aa-bbccddeeff00", SectorSize: 512,
	Partitions: []Partition{
		{Number: 1, Start: 1 << 20, Size: 1 << 20, Type: "21686148-6449-6e6f-744e-656564454649", TypeName: "BIOS boot", UUID: "00000001-0000-4000-8000-000000000001"},
		{Number: 2, Start: 2 << 20, Size: 4 << 20, Type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", TypeName: "EFI system", Name: "EFI ✓", UUID: "00000002-0000-4000-8000-000000000002"},
		{Number: 3, Start: 6 << 20, Size: 9 << 20, Type: "0fc63daf-8483-4772-8e79-3d69d8477de4", TypeName: "Linux file system", Name: "root", UUID: "00000003-0000-4000-8000-000000000003", Bootable: true},
	},
}

var wantGPT4096 = &Table{
	Scheme: GPT, ID: "21223344-5566-4788-99aa-bbccddeeff00", SectorSize: 4096,
	Partitions: []Partition{
		{Number: 1, Start: 1 << 20, Size: 4 << 20, Type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", TypeName: "EFI system", Name: "esp", UUID: "00000004-0000-4000-8000-000000000004"},
		{Number: 2, Start: 5 << 20, Size: 10 << 20, Type: "e6d6d379-f507-44c2-a23c-238f2a3df928", TypeName: "Linux LVM", Name: "pv", UUID: "00000005-0000-4000-8000-000000000005"},
	},
}

var wantMBR = &Table{
	Scheme: MBR, ID: "deadbeef", SectorSize: 512,
	Partitions: []Partition{
		{Number: 1, Start: 2048 * 512, Size: 8192 * 512, Type: "83", TypeName: "Linux", UUID: "deadbeef-01", Bootable: true},
		{Number: 2, Start: 10240 * 512, Size: 4096 * 512, Type: "82", TypeName: "Linux swap", UUID: "deadbeef-02"},
		{Number: 3, Start: 14336 * 512, Size: 51200 * 512, Type: "05", TypeName: "extended", UUID: "deadbeef-03"},
		{Number: 5, Start: 16384 * 512, Size: 4096 * 512, Type: "8e", TypeName: "Linux LVM", UUID: "deadbeef-05"},
		{Number: 6, Start: 22528 * 512, Size: 8192 * 512, Type: "83", TypeName: "Linux", UUID: "deadbeef-06"},
		{Number: 7, Start: 32768 * 512, Size: 4096 * 512, Type: "fd", TypeName: "Linux RAID", UUID: "deadbeef-07"},
	},
}

func TestReadWhatSfdiskWrote(t *testing.T) {
	for _, c := range []struct {
		name    string
		sectors []int
		want    *Table
	}{
		{"gpt512", []int{0, 512}, wantGPT512},
		{"gpt4096", []int{0, 4096}, wantGPT4096},
		{"mbr", []int{0, 512}, wantMBR},
	} {
		for _, sector := range c.sectors {
			got, err := read(image(t, c.name), sector)
			if err != nil {
				t.Errorf("%s with sectors of %d: %v", c.name, sector, err)
			} else if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("%s with sectors of %d: %s", c.name, sector, d)
			}
		}
	}
}

func TestReadGPTBackup(t *testing.T) {
	const ss = 512
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"signature", func(b []byte) []byte { b[ss] = 'X'; return b }},
		{"header checksum", func(b []byte) []byte { b[ss+56]++; return b }},
		{"entries checksum", func(b []byte) []byte { b[2*ss+40]++; return b }},
		{"claims a huge header", func(b []byte) []byte { binary.LittleEndian.PutUint32(b[ss+12:], 1<<31); return b }},
		{"is elsewhere", func(b []byte) []byte { binary.LittleEndian.PutUint64(b[ss+24:], 7); return reseal(b) }},
		{"claims too many entries", func(b []byte) []byte { binary.LittleEndian.PutUint32(b[ss+80:], 1<<30); return reseal(b) }},
		{"claims odd entries", func(b []byte) []byte { binary.LittleEndian.PutUint32(b[ss+84:], 129); return reseal(b) }},
		{"entries beyond the end", func(b []byte) []byte { binary.LittleEndian.PutUint64(b[ss+72:], 1<<62); return reseal(b) }},
		{"grown, entries damaged", func(b []byte) []byte { b[2*ss+40]++; return append(b, make([]byte, 1<<20)...) }},
	} {
		b := c.damage(image(t, "gpt512"))
		got, err := read(b, 0)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !got.Backup || len(got.Warnings) != 1 || !cmp.Equal(got.Partitions, wantGPT512.Partitions) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	b := image(t, "gpt512")
	b[512], b[len(b)-512] = 0, 0
	got, err := read(b, 512)
	if err != nil || got.Scheme != MBR || len(got.Warnings) != 1 || got.Partitions[0].Type != "ee" {
		t.Errorf("both copies damaged: %+v, %v", got, err)
	}
}

// reseal makes the primary header's checksum right again.
func reseal(b []byte) []byte {
	h := b[512 : 512+92]
	clear(h[16:20])
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return b
}

func TestReadRefusesPartitionsOutside(t *testing.T) {
	b := image(t, "gpt512")
	got, err := read(b[:10<<20], 512) // the third ends beyond
	if err != nil || len(got.Partitions) != 2 || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "partition 3") {
		t.Errorf("cut GPT: %+v, %v", got, err)
	}
	b = image(t, "gpt512")
	binary.LittleEndian.PutUint64(b[1024+40:], 1) // ends before it starts
	binary.LittleEndian.PutUint64(b[1024+128+32:], 0)
	binary.LittleEndian.PutUint64(b[1024+128+40:], 1<<64-1) // as many sectors as wrap to none
	binary.LittleEndian.PutUint32(b[512+88:], crc32.ChecksumIEEE(b[1024:1024+128*128]))
	got, err = read(reseal(b), 512)
	if err != nil || got.Backup || len(got.Partitions) != 1 || len(got.Warnings) != 2 {
		t.Errorf("GPT with silly spans: %+v, %v", got, err)
	}
}

func TestReadMBRChains(t *testing.T) {
	link := func(b []byte, record, next, count uint32) { // second entry of the record at a sector
		e := b[record*512+446+16:]
		e[4] = 5
		binary.LittleEndian.PutUint32(e[8:], next)
		binary.LittleEndian.PutUint32(e[12:], count)
	}
	for _, c := range []struct {
		name    string
		damage  func(b []byte)
		numbers []int
		warning string
	}{
		{"loop to itself", func(b []byte) { link(b, 14336, 0, 100) }, []int{1, 2, 3, 5}, "comes back"},
		{"leaves the partition", func(b []byte) { link(b, 14336, 1<<31, 100) }, []int{1, 2, 3, 5}, "leaves"},
		{"no record there", func(b []byte) { link(b, 14336, 3, 100) }, []int{1, 2, 3, 5}, "no boot record"},
		{"no record at all", func(b []byte) { b[14336*512+511] = 0 }, []int{1, 2, 3}, "no boot record"},
		{"empty first record", func(b []byte) { clear(b[14336*512+446:][:16]) }, []int{1, 2, 3, 5, 6}, ""},
	} {
		b := image(t, "mbr")
		c.damage(b)
		got, err := read(b, 512)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var numbers []int
		for _, p := range got.Partitions {
			numbers = append(numbers, p.Number)
		}
		if !cmp.Equal(numbers, c.numbers) || (c.warning == "") != (len(got.Warnings) == 0) || !strings.Contains(strings.Join(got.Warnings, "\n"), c.warning) {
			t.Errorf("%s: partitions %v, warnings %q", c.name, numbers, got.Warnings)
		}
	}
}

func TestReadLongChainStops(t *testing.T) {
	b := make([]byte, 4<<20)
	sector := func(lba int) []byte { return b[lba*512:][:512] }
	put := func(s []byte, entry int, typ byte, first, count int) {
		e := s[446+16*entry:]
		e[4] = typ
		binary.LittleEndian.PutUint32(e[8:], uint32(first))
		binary.LittleEndian.PutUint32(e[12:], uint32(count))
		s[510], s[511] = 0x55, 0xaa
	}
	put(sector(0), 0, 0x0f, 1, 8000)
	for i := 1; i < 3000; i += 2 {
		put(sector(i), 0, 0x83, 1, 1)
		put(sector(i), 1, 5, i+2-1, 2)
	}
	got, err := read(b, 512)
	if err != nil || len(got.Partitions) != maxLogical+1 || len(got.Warnings) != 1 {
		t.Errorf("%d partitions, warnings %q, %v", len(got.Partitions), got.Warnings, err)
	}
}

func TestReadFindsNone(t *testing.T) {
	fat := make([]byte, 1<<20)
	copy(fat[0x52:], "FAT32   ")
	fat[440], fat[510], fat[511] = 1, 0x55, 0xaa
	text := bytes.Repeat([]byte("no table "), 1<<14)
	text[510], text[511] = 0x55, 0xaa
	for name, b := range map[string][]byte{
		"nothing": {}, "zeros": make([]byte, 1<<20), "one sector": make([]byte, 512), "FAT": fat, "text": text,
	} {
		if got, err := read(b, 0); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %+v, %v; want ErrNone", name, got, err)
		}
	}
	if _, err := read(make([]byte, 1<<20), 777); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("an odd sector size gives %v", err)
	}
}

type badReader struct {
	io.ReaderAt
	bad int64
}

func (r badReader) ReadAt(p []byte, off int64) (int, error) {
	if off <= r.bad && r.bad < off+int64(len(p)) {
		return 0, os.ErrPermission
	}
	return r.ReaderAt.ReadAt(p, off)
}

func TestReadReportsReadErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  int64
	}{{"mbr", 0}, {"mbr", 14336 * 512}, {"gpt512", 512}, {"gpt512", 2048}} {
		b := image(t, c.name)
		if _, err := Read(badReader{bytes.NewReader(b), c.bad}, int64(len(b)), 512); !errors.Is(err, os.ErrPermission) {
			t.Errorf("%s with a bad sector at %d: %v", c.name, c.bad, err)
		}
	}
}

// disk is a device of size bytes that holds head at its start, tail at its end, and zeros between.
type disk struct {
	head, tail []byte
	size       int64
}

func (d disk) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off >= d.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), d.size-off))
	if off < int64(len(d.head)) {
		copy(p[:n], d.head[off:])
	}
	if from := d.size - int64(len(d.tail)); off+int64(n) > from {
		if off >= from {
			copy(p[:n], d.tail[off-from:])
		} else {
			copy(p[from-off:n], d.tail)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// resealAll makes the checksums of the primary GPT right, where it has any, so that a fuzzer gets past them.
func resealAll(b []byte, ss int) []byte {
	if len(b) < ss+92 {
		return b
	}
	le, h := binary.LittleEndian, b[ss:]
	array, n := le.Uint64(h[72:]), uint64(le.Uint32(h[80:]))*uint64(le.Uint32(h[84:]))
	if array < uint64(len(b)/ss) && n <= uint64(len(b))-array*uint64(ss) {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(b[array*uint64(ss):][:n]))
	}
	if length := le.Uint32(h[12:]); length >= 92 && int64(length) <= int64(len(h)) {
		clear(h[16:20])
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:length]))
	}
	return b
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"gpt512", "gpt4096"} {
		b := image(f, name)
		ss := map[string]int{"gpt512": 512, "gpt4096": 4096}[name]
		binary.LittleEndian.PutUint32(b[ss+80:], 4) // of 128 entries
		small := resealAll(b[:2*ss+512], ss)
		f.Add(small, []byte{}, int64(len(b)), ss == 4096)
		f.Add([]byte{}, small[ss:][:ss], int64(len(b)), ss == 4096)
	}
	b := image(f, "mbr")
	f.Add(b[:512], b[32768*512-1024:][:512], int64(len(b)), false)
	f.Fuzz(func(t *testing.T, head, tail []byte, size int64, big bool) {
		sector := 512
		if big {
			sector = 4096
		}
		if size < 0 || int64(len(head)+len(tail)) > size {
			return
		}
		head = resealAll(bytes.Clone(head), sector)
		table, err := Read(disk{head, tail, size}, size, sector)
		if err != nil {
			if !errors.Is(err, ErrNone) {
				t.Fatalf("no read failed, but: %v", err)
			}
			return
		}
		if len(table.Partitions) > MaxPartitions || len(table.Warnings) > maxWarnings {
			t.Fatalf("%d partitions, %d warnings", len(table.Partitions), len(table.Warnings))
		}
		for _, p := range table.Partitions {
			if p.Start < 0 || p.Size <= 0 || p.Start > size-p.Size || p.Number < 1 {
				t.Fatalf("partition %+v of a device of %d bytes", p, size)
			}
		}
	})
}
