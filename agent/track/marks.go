package track

import (
	"fmt"
	"io"
	"math/bits"
)

// Marks is a set of grains of a disk.
type Marks struct {
	grain int64
	size  int64 // bytes of disk
	words []uint64
}

// NewMarks makes an empty set. grain is a power of two, in bytes.
func NewMarks(size, grain int64) *Marks {
	if size < 0 || grain <= 0 || grain&(grain-1) != 0 {
		panic(fmt.Sprintf("track: no set of marks of %d bytes in grains of %d", size, grain))
	}
	n := (size + grain - 1) / grain
	return &Marks{grain: grain, size: size, words: make([]uint64, (n+63)/64)}
}

// Grain is the size of one grain in bytes.
func (m *Marks) Grain() int64 { return m.grain }

// Size is the size of the disk in bytes.
func (m *Marks) Size() int64 { return m.size }

// Words are the bits, lowest first: grain i is bit i%64 of word i/64. They belong to m.
func (m *Marks) Words() []uint64 { return m.words }

// Add marks [off, off+n), as far as it lies on the disk.
func (m *Marks) Add(off, n int64) {
	end := min(off+n, m.size)
	if off = max(off, 0); n <= 0 || off >= end {
		return
	}
	first, last := off/m.grain, (end-1)/m.grain
	for w := first / 64; w <= last/64; w++ {
		mask := ^uint64(0)
		if w == first/64 {
			mask &= ^uint64(0) << (first % 64)
		}
		if w == last/64 {
			mask &= ^uint64(0) >> (63 - last%64)
		}
		m.words[w] |= mask
	}
}

// Union adds all marks of o, which must be of the same disk and grain.
func (m *Marks) Union(o *Marks) {
	if m.grain != o.grain || len(m.words) != len(o.words) {
		panic("track: union of marks of different disks")
	}
	for i, w := range o.words {
		m.words[i] |= w
	}
}

// Bytes is how much of the disk is marked.
func (m *Marks) Bytes() int64 {
	var n int64
	for _, w := range m.words {
		n += int64(bits.OnesCount64(w))
	}
	return n*m.grain - m.excess()
}

// excess is by how much the last grain reaches past the disk, if it is marked.
func (m *Marks) excess() int64 {
	if m.size%m.grain == 0 {
		return 0
	}
	i := m.size / m.grain
	if m.words[i/64]>>(i%64)&1 == 0 {
		return 0
	}
	return m.grain - m.size%m.grain
}

// Next returns the first marked range [start, end) at or after off, in whole grains as far as the disk goes; io.EOF when there is none.
func (m *Marks) Next(off int64) (start, end int64, err error) {
	i, ok := m.find(off/m.grain, 0)
	if !ok {
		return 0, 0, io.EOF
	}
	j, ok := m.find(i, ^uint64(0))
	if !ok {
		j = int64(len(m.words)) * 64
	}
	start, end = max(off, i*m.grain), min(j*m.grain, m.size)
	if start >= end {
		return 0, 0, io.EOF
	}
	return start, end, nil
}

// find returns the first grain at or after i whose bit, xored with flip, is set.
func (m *Marks) find(i int64, flip uint64) (int64, bool) {
	w := i / 64
	if w >= int64(len(m.words)) {
		return 0, false
	}
	x := (m.words[w] ^ flip) & (^uint64(0) << (i % 64))
	for x == 0 {
		if w++; w >= int64(len(m.words)) {
			return 0, false
		}
		x = m.words[w] ^ flip
	}
	return w*64 + int64(bits.TrailingZeros64(x)), true
}
