package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A boot record, master or extended: four entries of 16 bytes at 446, then 55 aa.
//
//	 0  1  80 = active, 00 = not; anything else is no partition table
//	 4  1  type
//	 8  4  first sector
//	12  4  sectors
//
// Bytes 440 to 444 of the master record are the disk's signature. First is relative to the device in the master record. In an
// extended record the first entry is a logical partition, relative to the record itself; the second is the next
// record, relative to the extended partition.
type bootSector struct {
	signature uint32
	entries   [4]mbrEntry
}

type mbrEntry struct {
	active bool
	typ    byte
	first  uint32
	count  uint32
}

func (e mbrEntry) empty() bool { return e.typ == 0 || e.count == 0 }

func (e mbrEntry) extended() bool { return e.typ == 0x05 || e.typ == 0x0f || e.typ == 0x85 }

// maxLogical bounds a chain of extended records; Linux stops at 252 as well.
const maxLogical = MaxPartitions - 4

// parseBootSector returns nil if b holds no partition table. The boot sector of a FAT or NTFS ends in 55 aa too.
func parseBootSector(b []byte) *bootSector {
	s := parseRecord(b)
	if s == nil || bytes.Equal(b[3:11], []byte("NTFS    ")) || bytes.Equal(b[0x36:0x39], []byte("FAT")) || bytes.Equal(b[0x52:0x55], []byte("FAT")) {
		return nil
	}
	s.signature = binary.LittleEndian.Uint32(b[440:])
	used := false
	for _, e := range s.entries {
		used = used || !e.empty()
	}
	if !used && s.signature == 0 {
		return nil
	}
	return s
}

func parseRecord(b []byte) *bootSector {
	if b[510] != 0x55 || b[511] != 0xaa {
		return nil
	}
	s := &bootSector{}
	for i := range s.entries {
		e := b[446+16*i:][:16]
		if e[0] != 0 && e[0] != 0x80 {
			return nil
		}
		s.entries[i] = mbrEntry{e[0] == 0x80, e[4], binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])}
	}
	return s
}

// protective reports whether the record says that there is a GPT.
func (s *bootSector) protective() bool {
	for _, e := range s.entries {
		if e.typ == 0xee {
			return true
		}
	}
	return false
}

func (s *bootSector) table(r io.ReaderAt, size, ss int64) (*Table, error) {
	t := &Table{Scheme: MBR, ID: fmt.Sprintf("%08x", s.signature), SectorSize: int(ss)}
	if s.protective() {
		t.warn("the table says that there is a GPT, but neither of its copies is whole")
	}
	var extended *mbrEntry
	for i, e := range s.entries {
		if e.empty() {
			continue
		}
		t.addEntry(i+1, e, uint64(e.first), size)
		if e.extended() && extended == nil {
			extended = &s.entries[i]
		}
	}
	if extended == nil {
		return t, nil
	}
	return t, t.addLogical(r, *extended, size)
}

// addLogical follows the chain of extended records. Errors are of r only.
func (t *Table) addLogical(r io.ReaderAt, ext mbrEntry, size int64) error {
	base := uint64(ext.first)
	at, seen := base, map[uint64]bool{}
	for number := 5; ; number++ {
		switch {
		case seen[at]:
			t.warn("logical partitions: the chain comes back to sector %d", at)
			return nil
		case len(seen) == maxLogical:
			t.warn("logical partitions: only the first %d were read", maxLogical)
			return nil
		case at < base || at-base >= uint64(ext.count):
			t.warn("logical partitions: the chain leaves the extended partition for sector %d", at)
			return nil
		}
		seen[at] = true
		b, err := readAt(r, int64(at)*int64(t.SectorSize), 512)
		if err != nil && !errors.Is(err, ErrNone) {
			return fmt.Errorf("read extended boot record: %w", err)
		}
		var rec *bootSector
		if err == nil {
			rec = parseRecord(b)
		}
		if rec == nil {
			t.warn("logical partitions: there is no boot record at sector %d", at)
			return nil
		}
		if e := rec.entries[0]; !e.empty() && !e.extended() {
			t.addEntry(number, e, at+uint64(e.first), size)
		} else {
			number-- // an extended partition may begin with an empty record
		}
		next := rec.entries[1]
		if next.empty() || !next.extended() {
			return nil
		}
		at = base + uint64(next.first)
	}
}

func (t *Table) addEntry(number int, e mbrEntry, first uint64, size int64) {
	typ := fmt.Sprintf("%02x", e.typ)
	t.add(Partition{Number: number, Type: typ, TypeName: mbrTypes[e.typ], Bootable: e.active, UUID: fmt.Sprintf("%s-%02x", t.ID, number)}, first, uint64(e.count), size)
}
