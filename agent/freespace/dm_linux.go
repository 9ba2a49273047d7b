package freespace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// follow finds the segments of a volume that lies on known ones, if all of it is linear. Snapshots, thin pools, mirrors, caches and
// encryption are not: what a file system on them calls free may be what they need. What they are is returned for a note.
//
// The table may be changed while the volume is in use (a volume is extended or moved), so it is compared once more after the file
// system's map was taken.
func (v *volume) follow(vols []*volume) (what string, err error) {
	if !strings.HasPrefix(v.name, "dm-") {
		return "", errors.New("its place on the disk is not known")
	}
	uuid, err := readText(filepath.Join("/sys/class/block", v.name, "dm/uuid"))
	if err != nil {
		return "", err
	}
	if kind, _, ok := strings.Cut(uuid, "-"); ok {
		what = strings.ToLower(kind) // lvm, crypt, mpath
	}
	lines, err := v.table()
	if err != nil {
		return what, err
	}
	v.segs, v.below, err = place(lines, vols)
	if err != nil {
		return what, err
	}
	v.check = func() error {
		now, err := v.table()
		if err == nil && !slices.Equal(now, lines) {
			err = errors.New("its mapping changed while it was looked at")
		}
		return err
	}
	return what, nil
}

// table reads the volume's table. The kinds of its lines are asked for first: the text of an encrypted line has the key in it.
func (v *volume) table() ([]target, error) {
	lines, err := v.tableStatus(unix.DM_NOFLUSH_FLAG)
	if err != nil {
		return nil, err
	}
	for _, t := range lines {
		if t.kind != "linear" {
			return nil, fmt.Errorf("it is no linear mapping but %s", t.kind)
		}
	}
	return v.tableStatus(unix.DM_NOFLUSH_FLAG | unix.DM_STATUS_TABLE_FLAG | unix.DM_SECURE_DATA_FLAG)
}

func (v *volume) tableStatus(flags uint32) ([]target, error) {
	f, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ne := binary.NativeEndian
	buf := make([]byte, dmBuffer)
	ne.PutUint32(buf, 4) // version 4.0.0
	ne.PutUint32(buf[12:], dmBuffer)
	ne.PutUint32(buf[16:], dmHead)
	ne.PutUint32(buf[28:], flags)
	ne.PutUint64(buf[40:], uint64(encodeDev(v.major, v.minor)))
	if err := ioctl(f, unix.DM_TABLE_STATUS, unsafe.Pointer(&buf[0])); err != nil {
		return nil, fmt.Errorf("ask for its table: %w", err)
	}
	switch got := ne.Uint32(buf[28:]); {
	case got&unix.DM_BUFFER_FULL_FLAG != 0:
		return nil, errors.New("its table is too long")
	case got&unix.DM_SUSPEND_FLAG != 0:
		return nil, errors.New("it is suspended")
	}
	return parseTable(buf)
}
