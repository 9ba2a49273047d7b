package freespace

import (
	"cmp"
	"slices"
	"sort"
)

// Grain is what ranges are aligned to, in bytes: the page, which is the grain of change tracking and of direct reads.
const Grain = 4096

// DefaultMaxRanges bounds what Of returns: 2 MiB of memory while a pass runs, and about thrice that while the map is taken.
const DefaultMaxRanges = 1 << 17

// Range is the bytes [Start, End) of a disk.
type Range struct {
	Start, End int64
}

// Len is its length in bytes.
func (r Range) Len() int64 { return r.End - r.Start }

// Ranges is sorted; its members are not empty, do not touch each other, and begin and end at multiples of Grain.
type Ranges []Range

// Bytes is how many bytes they hold together.
func (rs Ranges) Bytes() int64 {
	var n int64
	for _, r := range rs {
		n += r.Len()
	}
	return n
}

// from returns the index of the first range that ends after off.
func (rs Ranges) from(off int64) int {
	return sort.Search(len(rs), func(i int) bool { return rs[i].End > off })
}

// collector gathers ranges in bounded memory: when there are more than twice max, the smallest are forgotten, which only
// makes more be read.
type collector struct {
	max  int
	list []Range
}

// add takes a range at any alignment. Ranges that touch are joined if they come in order, so that a block smaller than
// Grain is not lost beside its neighbour.
func (c *collector) add(start, end int64) {
	if end <= start {
		return
	}
	if n := len(c.list); n > 0 && c.list[n-1].End == start {
		c.list[n-1].End = end
		return
	}
	if len(c.list) >= 2*c.max {
		c.list = largest(c.list, c.max)
	}
	c.list = append(c.list, Range{start, end})
}

// ranges returns what was gathered as Ranges, the largest max of them.
func (c *collector) ranges() Ranges {
	slices.SortFunc(c.list, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	joined := c.list[:0]
	for _, r := range c.list {
		if n := len(joined); n > 0 && r.Start <= joined[n-1].End {
			joined[n-1].End = max(joined[n-1].End, r.End)
			continue
		}
		joined = append(joined, r)
	}
	aligned := joined[:0]
	for _, r := range joined {
		r.Start, r.End = (r.Start+Grain-1)&^(Grain-1), r.End&^(Grain-1)
		if r.Start < r.End {
			aligned = append(aligned, r)
		}
	}
	return slices.Clone(Ranges(largest(aligned, c.max)))
}

// largest keeps the n largest of list, in their order, in list's memory.
func largest(list []Range, n int) []Range {
	if len(list) <= n {
		return list
	}
	sizes := make([]int64, len(list))
	for i, r := range list {
		sizes[i] = r.Len()
	}
	slices.Sort(sizes)
	limit := sizes[len(sizes)-n]
	// Of those that are exactly as large as the limit, only so many.
	equal := n - (len(sizes) - sort.Search(len(sizes), func(i int) bool { return sizes[i] > limit }))
	kept := list[:0]
	for _, r := range list {
		switch {
		case r.Len() > limit:
		case r.Len() == limit && equal > 0:
			equal--
		default:
			continue
		}
		kept = append(kept, r)
	}
	return kept
}
