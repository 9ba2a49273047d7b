package fat

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf16"
)

// folder is the place of each piece of a folder.
type folder struct {
	pieces []piece
	first  uint32 // 0: the root of FAT16
}

type piece struct{ at, size int64 }

func (f *FS) folder(first uint32) (folder, error) {
	if first == 0 && !f.fat32 {
		return folder{pieces: []piece{{f.rootAt, f.rootSize}}}, nil
	}
	if first == 0 {
		first = f.root
	}
	list, err := f.chain(first, maxFolder)
	d := folder{first: first}
	for _, c := range list {
		d.pieces = append(d.pieces, piece{f.at(c), f.cluster})
	}
	return d, err
}

// Entry is a file or folder.
type Entry struct {
	Name  string // the long name if it has one
	Dir   bool
	Size  int64
	first uint32
	at    int64 // of its 32 bytes
}

// Bytes of an entry of a folder.
const (
	attrVolume, attrDir, attrArchive = 0x08, 0x10, 0x20
	attrLong                         = 0x0f
	deleted, noMore                  = 0xe5, 0x00
)

// entries reads a folder. Free are places for new entries.
func (f *FS) entries(d folder) (list []Entry, free []int64, err error) {
	var long []uint16
	ended := false
	for _, p := range d.pieces {
		b := make([]byte, p.size)
		if _, err := f.dev.ReadAt(b, p.at); err != nil {
			return nil, nil, err
		}
		for i := 0; i+32 <= len(b); i += 32 {
			e := b[i : i+32]
			switch {
			case ended || e[0] == noMore:
				ended = true
				free = append(free, p.at+int64(i))
			case e[0] == deleted:
				free = append(free, p.at+int64(i))
				long = nil
			case e[11]&0x3f == attrLong:
				long = append(longPart(e), long...)
				if len(long) > 260 {
					long = nil
				}
			case e[11]&attrVolume != 0:
				long = nil
			default:
				list = append(list, entry(e, long, p.at+int64(i)))
				long = nil
			}
		}
	}
	return list, free, nil
}

// longPart is the 13 characters of one part of a long name.
func longPart(e []byte) []uint16 {
	var u []uint16
	for _, r := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := r[0]; i < r[1]; i += 2 {
			c := binary.LittleEndian.Uint16(e[i:])
			if c == 0 || c == 0xffff {
				return u
			}
			u = append(u, c)
		}
	}
	return u
}

func entry(e []byte, long []uint16, at int64) Entry {
	le := binary.LittleEndian
	name := string(utf16.Decode(long))
	if name == "" {
		name = strings.TrimRight(string(e[:8]), " ")
		if ext := strings.TrimRight(string(e[8:11]), " "); ext != "" {
			name += "." + ext
		}
	}
	return Entry{Name: name, Dir: e[11]&attrDir != 0, Size: int64(le.Uint32(e[28:])), at: at,
		first: uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:]))}
}

// ReadDir lists a folder; "" is the root.
func (f *FS) ReadDir(name string) ([]Entry, error) {
	d, err := f.walk(name)
	if err != nil {
		return nil, fmt.Errorf("read folder %s: %w", name, err)
	}
	list, _, err := f.entries(d)
	return list, err
}

// walk opens the folder of that name.
func (f *FS) walk(name string) (folder, error) {
	d, err := f.folder(0)
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || err != nil {
			continue
		}
		var e *Entry
		if e, err = f.find(d, part); err == nil {
			if !e.Dir || e.first == 0 {
				return d, fs.ErrNotExist
			}
			d, err = f.folder(e.first)
		}
	}
	return d, err
}

func (f *FS) find(d folder, name string) (*Entry, error) {
	list, _, err := f.entries(d)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		if strings.EqualFold(e.Name, name) {
			return &e, nil
		}
	}
	return nil, fs.ErrNotExist
}

// split separates the folder and the last part of a name.
func split(name string) (dir, last string) {
	name = strings.Trim(name, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

// ReadFile returns a file; fs.ErrNotExist if there is none of that name.
func (f *FS) ReadFile(name string) ([]byte, error) {
	dir, last := split(name)
	d, err := f.walk(dir)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	e, err := f.find(d, last)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case e.Dir || e.Size > MaxFile:
		return nil, fmt.Errorf("read %s: it is no file, or larger than %d MiB", name, MaxFile>>20)
	}
	list, err := f.chain(e.first, MaxFile+maxCluster)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(list))*f.cluster < e.Size {
		return nil, fmt.Errorf("read %s: %w: it has fewer clusters than its size", name, ErrDamaged)
	}
	b := make([]byte, int64(len(list))*f.cluster)
	for i, c := range list {
		if _, err := f.dev.ReadAt(b[int64(i)*f.cluster:][:f.cluster], f.at(c)); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return b[:e.Size], nil
}
