package measure

import "slices"

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
