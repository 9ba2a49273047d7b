package measure

import (
	"math"
	"slices"
)

// Median is the middle of values, or the mean of the two in the middle; 0 when there are none.
func Median[T ~float64 | ~int64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	s := slices.Clone(values)
	slices.Sort(s)
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// Percentile is the smallest of values that at least share (0 to 1) of them do not exceed: nearest rank, so it is one that was
// measured; 0 when there are none.
func Percentile[T ~float64 | ~int64](values []T, share float64) T {
	if len(values) == 0 {
		return 0
	}
	s := slices.Clone(values)
	slices.Sort(s)
	rank := int(math.Ceil(share * float64(len(s))))
	return s[min(max(rank, 1), len(s))-1]
}
