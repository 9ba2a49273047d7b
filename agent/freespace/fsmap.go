package freespace

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The buffer of FS_IOC_GETFSMAP (include/uapi/linux/fsmap.h), in the byte order of the machine: struct fsmap_head, with the low and
// the high key, and the records. A record and a key are a struct fsmap.
//
//	head  0 4  flags in         record  0 4  device
//	      4 4  flags out                4 4  flags
//	      8 4  room for records         8 8  first byte on the device
//	     12 4  records given           16 8  owner
//	     16 48 zero                    24 8  offset in the file
//	     64 64 low key                 32 8  length in bytes
//	    128 64 high key                40 24 zero
const (
	fsmapRecord = 64
	fsmapHead   = 192
	fsmapLow    = 64
	fsmapHigh   = 128

	fsmapOutDevT      = 1    // FMH_OF_DEV_T: devices are dev_t
	fsmapSpecialOwner = 0x10 // FMR_OF_SPECIAL_OWNER
	fsmapLast         = 0x20 // FMR_OF_LAST
	fsmapOwnFree      = 1    // FMR_OWN_FREE
)

var errFsmapOrder = errors.New("the kernel's map of it is out of order")

// fsmapWalk follows a map over the pages in which the kernel gives it.
type fsmapWalk struct {
	device uint32 // of the records that count, as the kernel writes dev_t for programs
	size   int64  // bytes; ranges are cut there

	used int64 // end of the used records so far
	free int64 // end of the last free record
	last [40]byte
	any  bool
}

// page hands the free ranges of one page to add, and reports whether it was the last. Only records that say "free" count, so
// what the map leaves out is data. A map in which free and used overlap is refused whole.
func (w *fsmapWalk) page(buf []byte, add func(start, end int64)) (done bool, err error) {
	ne := binary.NativeEndian
	if len(buf) < fsmapHead {
		return false, errors.New("the kernel's map of it is cut short")
	}
	n := int64(ne.Uint32(buf[12:]))
	if n > int64(len(buf)-fsmapHead)/fsmapRecord {
		return false, fmt.Errorf("the kernel's map of it has %d records in room for %d", n, (len(buf)-fsmapHead)/fsmapRecord)
	}
	if n == 0 {
		return true, nil
	}
	if ne.Uint32(buf[4:])&fsmapOutDevT == 0 {
		return false, errors.New("the kernel's map of it does not name devices")
	}
	var rec []byte
	for i := range n {
		rec = buf[fsmapHead+i*fsmapRecord:][:fsmapRecord]
		if ne.Uint32(rec) == w.device {
			if err := w.record(rec, add); err != nil {
				return false, err
			}
		}
	}
	if w.any && w.last == [40]byte(rec) {
		return false, errors.New("the kernel's map of it does not end")
	}
	w.any, w.last = true, [40]byte(rec)
	return ne.Uint32(rec[4:])&fsmapLast != 0, nil
}

func (w *fsmapWalk) record(rec []byte, add func(start, end int64)) error {
	ne := binary.NativeEndian
	start, length := ne.Uint64(rec[8:]), ne.Uint64(rec[32:])
	if start > 1<<60 || length > 1<<60 {
		return errFsmapOrder
	}
	from, to := int64(start), int64(start+length)
	if from < w.free {
		return errFsmapOrder
	}
	flags := ne.Uint32(rec[4:])
	if flags&^fsmapLast != fsmapSpecialOwner || ne.Uint64(rec[16:]) != fsmapOwnFree {
		w.used = max(w.used, to) // records of shared blocks overlap
		return nil
	}
	if from < w.used {
		return errFsmapOrder
	}
	w.free = to
	add(from, min(to, w.size))
	return nil
}

// next prepares buf for the page after the one that it holds, or for the first.
func (w *fsmapWalk) next(buf []byte) {
	clear(buf[:fsmapHead])
	binary.NativeEndian.PutUint32(buf[8:], uint32((len(buf)-fsmapHead)/fsmapRecord))
	copy(buf[fsmapLow:], w.last[:])
	// Up to the last byte of the last device: device, flags, first byte, owner and offset all ones.
	for i := fsmapHigh; i < fsmapHigh+32; i++ {
		buf[i] = 0xff
	}
}
