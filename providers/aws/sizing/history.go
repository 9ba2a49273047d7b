package sizing

import (
	"math"
	"slices"
)

// usable is how many seconds a history spans, and whether that is enough to go by.
func usable(h []Sample) (span int64, ok bool) {
	if len(h) < minSamples {
		return 0, false
	}
	first, last := h[0].Seconds, h[0].Seconds
	for _, s := range h {
		first, last = min(first, s.Seconds), max(last, s.Seconds)
	}
	return last - first, last-first >= minHistory
}

// series is one value of each sample, sorted. What is no number counts as nothing.
func series(h []Sample, of func(*Sample) float64) []float64 {
	out := make([]float64, len(h))
	for i := range h {
		if v := of(&h[i]); v > 0 && !math.IsInf(v, 0) {
			out[i] = v
		}
	}
	slices.Sort(out)
	return out
}

// percentile of a sorted series: the least value that at least that part of it does not pass.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, max(0, int(math.Ceil(p*float64(len(sorted))))-1))]
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(max(1, len(v)))
}
