package track

import (
	"fmt"
	"io"
	"math/bits"
)

// Marks is a set of grains of a disk. What it takes in memory and time grows with what is marked, not with the disk: a freeze looks at marks.
type Marks struct {
	grain int64
	size  int64 // bytes of disk
	words int   // of a plain bitmap
	parts []*part
}

// part is a piece of the bitmap; nil where nothing is marked. 64 words are 16 MiB of disk with the smallest grains, and a pointer for each of them
// is 1/64 of a plain bitmap.
type part [partWords]uint64

const partWords = 64

// NewMarks makes an empty set. grain is a power of two, in bytes.
func NewMarks(size, grain int64) *Marks {
	if size < 0 || grain <= 0 || grain&(grain-1) != 0 {
		panic(fmt.Sprintf("track: no set of marks of %d bytes in grains of %d", size, grain))
	}
	words := int(((size+grain-1)/grain + 63) / 64)
	return &Marks{grain: grain, size: size, words: words, parts: make([]*part, (words+partWords-1)/partWords)}
}

// Grain is the size of one grain in bytes.
func (m *Marks) Grain() int64 { return m.grain }

// Size is the size of the disk in bytes.
func (m *Marks) Size() int64 { return m.size }

// Words is how many words of 64 grains the disk has.
func (m *Marks) Words() int { return m.words }

// Word is the marks of 64 grains, lowest first: bit i of word n is grain n*64+i.
func (m *Marks) Word(n int) uint64 {
	if p := m.parts[n/partWords]; p != nil {
		return p[n%partWords]
	}
	return 0
}

// AddWord adds the marks of word n. Those behind the end of the disk are left out.
func (m *Marks) AddWord(n int, w uint64) {
	if n == m.words-1 {
		if last := uint(((m.size + m.grain - 1) / m.grain) % 64); last != 0 {
			w &= ^uint64(0) >> (64 - last)
		}
	}
	if w == 0 {
		return
	}
	p := m.parts[n/partWords]
	if p == nil {
		p = new(part)
		m.parts[n/partWords] = p
	}
	p[n%partWords] |= w
}

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
		m.AddWord(int(w), mask)
	}
}

// Union adds all marks of o, which must be of the same disk and grain.
func (m *Marks) Union(o *Marks) {
	if m.grain != o.grain || m.words != o.words {
		panic("track: union of marks of different disks")
	}
	for i, from := range o.parts {
		switch to := m.parts[i]; {
		case from == nil:
		case to == nil:
			clone := *from
			m.parts[i] = &clone
		default:
			for j, w := range from {
				to[j] |= w
			}
		}
	}
}

// Bytes is how much of the disk is marked.
func (m *Marks) Bytes() int64 {
	var n int64
	for _, p := range m.parts {
		if p == nil {
			continue
		}
		for _, w := range p {
			n += int64(bits.OnesCount64(w))
		}
	}
	return n*m.grain - m.excess()
}

// excess is by how much the last grain reaches past the disk, if it is marked.
func (m *Marks) excess() int64 {
	if m.size%m.grain == 0 {
		return 0
	}
	i := m.size / m.grain
	if m.Word(int(i/64))>>(i%64)&1 == 0 {
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
		j = int64(m.words) * 64
	}
	start, end = max(off, i*m.grain), min(j*m.grain, m.size)
	if start >= end {
		return 0, 0, io.EOF
	}
	return start, end, nil
}

// find returns the first grain at or after i whose bit, xored with flip, is set.
func (m *Marks) find(i int64, flip uint64) (int64, bool) {
	n := int(i / 64)
	mask := ^uint64(0) << (i % 64) // of the first word
	for n < m.words {
		if flip == 0 && m.parts[n/partWords] == nil {
			n, mask = (n/partWords+1)*partWords, ^uint64(0)
			continue
		}
		if x := (m.Word(n) ^ flip) & mask; x != 0 {
			return int64(n)*64 + int64(bits.TrailingZeros64(x)), true
		}
		n, mask = n+1, ^uint64(0)
	}
	return 0, false
}
