package option

import (
	"slices"
	"testing"
)

func TestSize(t *testing.T) {
	for s, want := range map[string]int64{"1": 1, "20GiB": 20 << 30, "1TiB": 1 << 40, "3KiB": 3 << 10, "512MiB": 512 << 20, "1024TiB": 1 << 50} {
		if n, err := Size(s); err != nil || n != want {
			t.Errorf("%s: %d, %v; want %d", s, n, err, want)
		}
	}
	for _, s := range []string{"", "GiB", "-1GiB", "0", "1GB", "1.5GiB", "1025TiB", "99999999999999999999"} {
		if n, err := Size(s); err == nil {
			t.Errorf("%q is taken for %d", s, n)
		}
	}
}

func TestOnly(t *testing.T) {
	all := []string{"a", "b", "c"}
	for list, want := range map[string][]string{"": nil, "b": {"b"}, "c,a": {"c", "a"}} {
		if got, err := Only(list, all); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", list, got, err, want)
		}
	}
	for _, list := range []string{"d", "a,", "a,,b", "a b"} {
		if got, err := Only(list, all); err == nil {
			t.Errorf("%q is taken for %v", list, got)
		}
	}
}
