package freespace

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestCollector(t *testing.T) {
	const p = Grain
	for name, c := range map[string]struct {
		max  int
		in   []Range
		want Ranges
	}{
		"nothing":               {4, nil, nil},
		"aligned inward":        {4, []Range{{1, 3*p - 1}}, Ranges{{p, 2 * p}}},
		"too small":             {4, []Range{{1, 2*p - 1}}, nil},
		"small ones that touch": {4, []Range{{0, 1024}, {1024, 2048}, {2048, p}}, Ranges{{0, p}}},
		"out of order":          {4, []Range{{5 * p, 6 * p}, {p, 2 * p}}, Ranges{{p, 2 * p}, {5 * p, 6 * p}}},
		"overlapping":           {4, []Range{{p, 3 * p}, {2 * p, 5 * p}, {3 * p, 4 * p}}, Ranges{{p, 5 * p}}},
		"empty and reversed":    {4, []Range{{p, p}, {3 * p, 2 * p}}, nil},
		"the largest stay":      {2, []Range{{0, p}, {2 * p, 5 * p}, {6 * p, 7 * p}, {8 * p, 10 * p}}, Ranges{{2 * p, 5 * p}, {8 * p, 10 * p}}},
		"equals":                {2, []Range{{0, p}, {2 * p, 3 * p}, {4 * p, 5 * p}}, Ranges{{0, p}, {2 * p, 3 * p}}},
	} {
		t.Run(name, func(t *testing.T) {
			col := &collector{max: c.max}
			for _, r := range c.in {
				col.add(r.Start, r.End)
			}
			if got := col.ranges(); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// Whatever is forgotten, nothing is made up, and memory stays within the bound.
func TestCollectorIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const max, size = 50, 20_000
	col := &collector{max: max}
	free := make([]bool, size)
	for at := int64(0); ; {
		start := at + 1 + rng.Int64N(5)
		at = start + 1 + rng.Int64N(1<<rng.IntN(6))
		if at > size {
			break
		}
		col.add(start*Grain, at*Grain)
		for i := start; i < at; i++ {
			free[i] = true
		}
		if len(col.list) > 2*max {
			t.Fatalf("%d ranges are held", len(col.list))
		}
	}
	got := col.ranges()
	if len(got) != max {
		t.Errorf("%d ranges, want %d", len(got), max)
	}
	for _, r := range got {
		if r.Len() < 8*Grain {
			t.Errorf("%v stayed, though there are many larger", r)
		}
		for i := r.Start / Grain; i < r.End/Grain; i++ {
			if !free[i] {
				t.Fatalf("page %d of %v is not free", i, r)
			}
		}
	}
}
