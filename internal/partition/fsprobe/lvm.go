package fsprobe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A physical volume of LVM2, little-endian.
//
//	label, in one of the first four sectors:  0  8  "LABELONE"   8  8  its sector   16  4  CRC of what follows
//	                                         20  4  offset of the header in it      24  8  "LVM2 001"
//	header:                                   0 32  UUID        32  8  size of the device
//	                                         40  …  data areas, then metadata areas: {offset, size}, each list ends at an offset of 0
//	metadata area:                            0  4  CRC          4 16  magic   24  8  start   32  8  size
//	                                         40 24  where the text is: {offset 8, size 8, CRC 4, flags 4}; it wraps to 512
const (
	pvSector      = 512
	mdaMagic      = " LVM2 x[5A%r0N*>"
	lvmCRCInitial = 0xf597a6cf
	maxMetadata   = 1 << 20 // bytes of text
	maxLVs        = 1024
)

// VolumeGroup is what one of its physical volumes says of a volume group.
type VolumeGroup struct {
	Name           string
	UUID           string
	LogicalVolumes []string // those that users see and the hidden parts of them, at most 1024
}

// ReadVolumeGroup reads the metadata of the physical volume in r. A physical volume without a group, or without a copy of the
// metadata, gives a VolumeGroup without a name.
func ReadVolumeGroup(r io.ReaderAt, size int64) (VolumeGroup, error) {
	doc, err := ReadLVMMetadata(r, size)
	if err != nil || len(doc) == 0 {
		return VolumeGroup{}, err
	}
	return parseMetadata(doc), nil
}

// ReadLVMMetadata returns the text that the physical volume in r keeps of its volume group, at most 1 MiB, whose checksum is
// right. It is empty for a physical volume without a group or without a copy of the metadata.
func ReadLVMMetadata(r io.ReaderAt, size int64) ([]byte, error) {
	head, err := readUpTo(r, 0, 4*pvSector, size)
	if err != nil {
		return nil, fmt.Errorf("read LVM label: %w", err)
	}
	header, _, ok := pvLabel(head)
	if !ok {
		return nil, errors.New("read LVM label: there is none")
	}
	for _, area := range metadataAreas(header) {
		doc, err := readMetadata(r, size, area)
		if err != nil {
			return nil, fmt.Errorf("read LVM metadata: %w", err)
		}
		if len(doc) > 0 {
			return doc, nil
		}
	}
	return nil, nil
}

// pvLabel finds the header and the UUID of a physical volume in its first sectors.
func pvLabel(b []byte) (header []byte, uuid string, ok bool) {
	le := binary.LittleEndian
	for sector := range uint64(4) {
		if uint64(len(b)) < (sector+1)*pvSector {
			break
		}
		s := b[sector*pvSector:][:pvSector]
		if !has(s, 0, "LABELONE") || !has(s, 24, "LVM2 001") || le.Uint64(s[8:]) != sector || lvmCRC(s[20:]) != le.Uint32(s[16:]) {
			continue
		}
		off := le.Uint32(s[20:])
		if off < 32 || off > pvSector-40 {
			continue
		}
		header = s[off:]
		id := text(header[:32])
		if len(id) != 32 {
			continue
		}
		uuid = id[:6] + "-" + id[6:10] + "-" + id[10:14] + "-" + id[14:18] + "-" + id[18:22] + "-" + id[22:26] + "-" + id[26:]
		return header, uuid, true
	}
	return nil, "", false
}

type area struct{ offset, size uint64 }

func metadataAreas(header []byte) []area {
	var areas []area
	lists := 0
	for b := header[40:]; len(b) >= 16 && lists < 2; b = b[16:] {
		a := area{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
		switch {
		case a.offset == 0:
			lists++
		case lists == 1:
			areas = append(areas, a)
		}
	}
	return areas
}

// readMetadata returns nothing for an area that is damaged or empty: another may be whole.
func readMetadata(r io.ReaderAt, size int64, a area) ([]byte, error) {
	if a.offset > uint64(size) || a.size > uint64(size)-a.offset || a.size <= pvSector {
		return nil, nil
	}
	b, err := readUpTo(r, int64(a.offset), pvSector, size)
	if err != nil || len(b) < pvSector {
		return nil, err
	}
	le := binary.LittleEndian
	off, n := le.Uint64(b[40:]), le.Uint64(b[48:])
	if !has(b, 4, mdaMagic) || lvmCRC(b[4:]) != le.Uint32(b) || off < pvSector || off >= a.size || n == 0 || n > maxMetadata || n > a.size-pvSector {
		return nil, nil
	}
	first := min(n, a.size-off)
	doc, err := readUpTo(r, int64(a.offset+off), int(first), size)
	if err != nil {
		return nil, err
	}
	rest, err := readUpTo(r, int64(a.offset+pvSector), int(n-first), size)
	if err != nil {
		return nil, err
	}
	doc = append(doc, rest...)
	if lvmCRC(doc) != le.Uint32(b[56:]) {
		return nil, nil
	}
	return doc, nil
}

// lvmCRC is CRC-32 with LVM's own start value, and without the final inversion.
func lvmCRC(b []byte) uint32 { return ^crc32.Update(^uint32(lvmCRCInitial), crc32.IEEETable, b) }

// parseMetadata walks the text: "name { id = "…" … logical_volumes { lv1 { … } } }". Only names and the group's id matter, so
// it counts braces and knows strings and comments; anything else is skipped.
func parseMetadata(doc []byte) VolumeGroup {
	var vg VolumeGroup
	var path []string
	var word, key string
	for len(doc) > 0 {
		c := doc[0]
		switch {
		case c == '#':
			for len(doc) > 0 && doc[0] != '\n' {
				doc = doc[1:]
			}
			continue
		case c == '"':
			var s string
			if s, doc = quoted(doc[1:]); len(path) == 1 && key == "id" {
				vg.UUID = s
			}
			word, key = "", ""
			continue
		case c == '=':
			word, key = "", word
		case c == '{':
			path = append(path, word)
			switch {
			case len(path) == 1 && vg.Name == "":
				vg.Name = word
			case len(path) == 3 && path[1] == "logical_volumes" && len(vg.LogicalVolumes) < maxLVs:
				vg.LogicalVolumes = append(vg.LogicalVolumes, word)
			case len(path) > 32:
				return vg
			}
			word, key = "", ""
		case c == '}':
			if len(path) > 0 {
				path = path[:len(path)-1]
			}
			word, key = "", ""
		case isName(c):
			n := 1
			for n < len(doc) && isName(doc[n]) {
				n++
			}
			word, doc = text(doc[:min(n, 128)]), doc[n:]
			continue
		}
		doc = doc[1:]
	}
	return vg
}

// quoted reads up to the closing quote, and returns what is after it.
func quoted(b []byte) (string, []byte) {
	var s []byte
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			return text(s), b[i+1:]
		case b[i] == '\\' && i+1 < len(b):
			i++
		}
		if len(s) < 1024 {
			s = append(s, b[i])
		}
	}
	return text(s), nil
}

// isName reports whether LVM allows c in names and numbers.
func isName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '+' || c == '-'
}
