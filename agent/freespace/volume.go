package freespace

import (
	"cmp"
	"fmt"
	"slices"
)

// sysfsSector is the unit of places and sizes in sysfs and in device mapper tables, whatever the sectors of the device are.
const sysfsSector = 512

// segment says that the bytes [at, at+size) of a volume are the bytes [disk, disk+size) of the disk.
type segment struct {
	at, disk, size int64
}

// volume is a block device whose bytes are known bytes of the disk: the disk, a partition, a linear mapping over those.
type volume struct {
	name    string // of the kernel: sda2
	path    string // device node
	major   uint32
	minor   uint32
	size    int64     // bytes
	segs    []segment // sorted by at; parts of the volume that are elsewhere are in none
	below   []*volume // what it lies on, directly or not
	covered bool      // others lie on it
	why     string    // why nothing of it may be called free; "" if nothing stands against it
	check   func() error
}

// number is the device's number as mountinfo has it.
func (v *volume) number() string { return fmt.Sprintf("%d:%d", v.major, v.minor) }

// toDisk adds a range of the volume to c, as ranges of the disk, and returns how many bytes of it are on the disk.
func (v *volume) toDisk(r Range, c *collector) int64 {
	var n int64
	for _, s := range v.segs {
		start, end := max(r.Start, s.at), min(r.End, s.at+s.size)
		if start < end {
			c.add(s.disk+start-s.at, s.disk+end-s.at)
			n += end - start
		}
	}
	return n
}

// part returns the segments of [off, off+size) of the volume, moved so that its first byte is at.
func (v *volume) part(at, off, size int64) []segment {
	var list []segment
	for _, s := range v.segs {
		start, end := max(off, s.at), min(off+size, s.at+s.size)
		if start < end {
			list = append(list, segment{at + start - off, s.disk + start - s.at, end - start})
		}
	}
	return list
}

// refuseOverlaps bars volumes that share bytes though none lies on the other: partitions that overlap, two mappings over one
// region. What one calls free may be the other's data.
func refuseOverlaps(vols []*volume) {
	type piece struct {
		start, end int64
		v          *volume
	}
	var pieces []piece
	for _, v := range vols {
		for _, s := range v.segs {
			pieces = append(pieces, piece{s.disk, s.disk + s.size, v})
		}
	}
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.start, b.start) })
	var open []piece // those that may reach past the start of the next
	for _, p := range pieces {
		open = slices.DeleteFunc(open, func(o piece) bool { return o.end <= p.start })
		for _, o := range open {
			if o.v == p.v || slices.Contains(o.v.below, p.v) || slices.Contains(p.v.below, o.v) {
				if o.v == p.v {
					p.v.why = "it maps one part of the disk twice"
				}
				continue
			}
			o.v.why = "it overlaps with " + p.v.name
			p.v.why = "it overlaps with " + o.v.name
		}
		open = append(open, p)
	}
}
