package freespace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// target is one line of a device mapper table, in sectors of 512 bytes.
type target struct {
	start, length uint64
	kind          string
	params        string
}

// Limits of what is read of a table: a volume group has 4 MiB extents as a rule, and a volume few runs of them.
const (
	dmMaxTargets = 4096
	dmBuffer     = 512 << 10
)

// What DM_TABLE_STATUS fills (include/uapi/linux/dm-ioctl.h): a struct dm_ioctl, of which these are used, and from the start of
// the data on a struct dm_target_spec for each target, followed by its text. Each tells where the next is, from the start of the data.
//
//	ioctl  0 12  version              target  0 8  first sector
//	      12  4  size of the buffer           8 8  sectors
//	      16  4  start of the data           16 4  status
//	      20  4  targets                     20 4  start of the next
//	      28  4  flags                       24 16 kind, ended by zeros
//	      32  4  events
//	      40  8  device                      40 …  parameters, ended by a zero
const (
	dmHead   = 312
	dmTarget = 40
)

// parseTable reads the targets of a table.
func parseTable(buf []byte) ([]target, error) {
	ne := binary.NativeEndian
	if len(buf) < dmHead {
		return nil, errors.New("its table is cut short")
	}
	start, n := ne.Uint32(buf[16:]), ne.Uint32(buf[20:])
	if n > dmMaxTargets || uint64(start) > uint64(len(buf)) {
		return nil, fmt.Errorf("its table has %d lines", n)
	}
	data := buf[start:]
	var list []target
	at, end := uint64(0), uint64(0)
	for range n {
		if at+dmTarget > uint64(len(data)) {
			return nil, errors.New("its table is cut short")
		}
		spec := data[at:]
		kind, _, _ := strings.Cut(string(spec[24:40]), "\x00")
		params, _, ended := strings.Cut(string(spec[dmTarget:min(len(spec), dmTarget+256)]), "\x00")
		t := target{ne.Uint64(spec), ne.Uint64(spec[8:]), kind, params}
		if !ended || t.start != end || t.length == 0 || t.length > 1<<50 {
			return nil, errors.New("its table cannot be read")
		}
		end += t.length
		list = append(list, t)
		at = uint64(ne.Uint32(spec[20:]))
	}
	return list, nil
}

// linear reads the parameters of a linear target: "8:2 2048", a device and a sector on it.
func (t target) linear() (device string, sector uint64, err error) {
	var major, minor uint32
	var rest string
	n, err := fmt.Sscanf(t.params+" .", "%d:%d %d %s", &major, &minor, &sector, &rest)
	if t.kind != "linear" || err != nil || n != 4 || rest != "." || sector > 1<<50 {
		return "", 0, fmt.Errorf("it is no linear mapping but %s", t.kind)
	}
	return fmt.Sprintf("%d:%d", major, minor), sector, nil
}

// place turns the lines of a table into segments of the disk that the volumes below are on. It also returns those that are.
func place(lines []target, vols []*volume) (segs []segment, below []*volume, err error) {
	for _, t := range lines {
		device, sector, err := t.linear()
		if err != nil {
			return nil, nil, err
		}
		for _, v := range vols {
			if v.number() == device {
				segs = append(segs, v.part(int64(t.start)*sysfsSector, int64(sector)*sysfsSector, int64(t.length)*sysfsSector)...)
				below = append(append(below, v), v.below...)
			}
		}
	}
	return segs, below, nil
}
