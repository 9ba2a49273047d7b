package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
)

// A GPT header, little-endian (UEFI Specification 2.10, 5.3.2). It fills LBA 1, and the backup the last LBA.
//
//	 0  8  "EFI PART"
//	 8  4  revision
//	12  4  bytes of header that the CRC covers, 92 at least
//	16  4  CRC-32 of them, with this field zero
//	24  8  LBA of this header
//	32  8  LBA of the other header
//	40 16  first and last LBA that partitions may use
//	56 16  GUID of the disk
//	72  8  LBA of the entry array
//	80  4  entries
//	84  4  bytes of an entry: 128 × 2ⁿ
//	88  4  CRC-32 of the entry array
const (
	gptSignature = "EFI PART"
	gptMinHeader = 92
	gptMinEntry  = 128
	gptMaxArray  = 1 << 20 // bytes; 16 KiB is usual
)

type gptHeader struct {
	other   uint64
	disk    [16]byte
	array   uint64
	entries uint32
	entry   uint32
	crc     uint32
}

// readGPT reads the primary table, or else the backup. ErrNone: neither is there, or neither is whole.
func readGPT(r io.ReaderAt, size, ss int64) (*Table, error) {
	if size < 3*ss {
		return nil, ErrNone
	}
	last := uint64(size/ss) - 1
	primary, why := readGPTHeader(r, 1, last, ss)
	if why == nil {
		var t *Table
		if t, why = readGPTEntries(r, primary, size, ss); why == nil {
			return t, nil
		}
	}
	if !errors.Is(why, ErrNone) {
		return nil, why
	}
	places := []uint64{last}
	if primary != nil && primary.other != last && primary.other > 1 && primary.other < last {
		places = append(places, primary.other) // the device grew since it was partitioned
	}
	for _, lba := range places {
		h, err := readGPTHeader(r, lba, last, ss)
		if err == nil {
			var t *Table
			if t, err = readGPTEntries(r, h, size, ss); err == nil {
				t.Backup = true
				t.warn("primary table: %v", why)
				return t, nil
			}
		}
		if !errors.Is(err, ErrNone) {
			return nil, err
		}
	}
	return nil, why
}

func readGPTHeader(r io.ReaderAt, lba, last uint64, ss int64) (*gptHeader, error) {
	b, err := readAt(r, int64(lba)*ss, int(ss))
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if string(b[:8]) != gptSignature {
		return nil, fmt.Errorf("%w: no GPT header at sector %d", ErrNone, lba)
	}
	n := le.Uint32(b[12:])
	if n < gptMinHeader || int64(n) > ss {
		return nil, fmt.Errorf("%w: the GPT header at sector %d claims %d bytes", ErrNone, lba, n)
	}
	want := le.Uint32(b[16:])
	clear(b[16:20])
	if crc32.ChecksumIEEE(b[:n]) != want {
		return nil, fmt.Errorf("%w: the checksum of the GPT header at sector %d is wrong", ErrNone, lba)
	}
	h := &gptHeader{other: le.Uint64(b[32:]), array: le.Uint64(b[72:]), entries: le.Uint32(b[80:]), entry: le.Uint32(b[84:]), crc: le.Uint32(b[88:])}
	copy(h.disk[:], b[56:])
	if own := le.Uint64(b[24:]); own != lba {
		return nil, fmt.Errorf("%w: the GPT header at sector %d says that it is at %d", ErrNone, lba, own)
	}
	switch array := uint64(h.entries) * uint64(h.entry); {
	case h.entry < gptMinEntry || h.entry&(h.entry-1) != 0 || array == 0 || array > gptMaxArray:
		return nil, fmt.Errorf("%w: the GPT at sector %d claims %d entries of %d bytes", ErrNone, lba, h.entries, h.entry)
	case h.array < 2 || h.array > last:
		return nil, fmt.Errorf("%w: the GPT at sector %d has its entries at sector %d of %d", ErrNone, lba, h.array, last)
	}
	return h, nil
}

func readGPTEntries(r io.ReaderAt, h *gptHeader, size, ss int64) (*Table, error) {
	b, err := readAt(r, int64(h.array)*ss, int(h.entries*h.entry))
	if err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(b) != h.crc {
		return nil, fmt.Errorf("%w: the checksum of the GPT entries is wrong", ErrNone)
	}
	t := &Table{Scheme: GPT, ID: guid(h.disk[:]), SectorSize: int(ss)}
	le := binary.LittleEndian
	for i := range int(h.entries) {
		e := b[i*int(h.entry):][:gptMinEntry]
		if [16]byte(e[:16]) == ([16]byte{}) {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if last < first {
			t.warn("partition %d: left out: it ends at sector %d, before its start at %d", i+1, last, first)
			continue
		}
		typ := guid(e[:16])
		t.add(Partition{
			Number: i + 1, Type: typ, TypeName: gptTypes[typ], UUID: guid(e[16:32]),
			Name:     gptName(e[56:128]),
			Bootable: le.Uint64(e[48:])&(1<<2) != 0, // legacy BIOS bootable
		}, first, last-first+1, size) // the sum is 0 for a span of 2⁶⁴, which add refuses
	}
	return t, nil
}

// guid writes the mixed-endian form of UEFI.
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// gptName decodes UTF-16 that ends at a zero, without control characters.
func gptName(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, string(utf16.Decode(u)))
}
