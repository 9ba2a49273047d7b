// Package option reads what flags of benchmarks have in common. All of it is pure but for Cache, which reads the environment.
package option

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Size reads "20GiB"; a number alone is bytes.
func Size(s string) (int64, error) {
	digits, shift := s, 0
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if d, ok := strings.CutSuffix(s, unit); ok {
			digits, shift = d, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 63)
	if err != nil || n <= 0 || n > 1<<50>>shift {
		return 0, fmt.Errorf("%q is no size such as 20GiB, up to 1024TiB", s)
	}
	return n << shift, nil
}

// Only reads the names of sections to run, separated by commas; "" is none, which stands for all.
func Only(list string, sections []string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	only := strings.Split(list, ",")
	for _, s := range only {
		if !slices.Contains(sections, s) {
			return nil, fmt.Errorf("--only: %q is none of %s", s, strings.Join(sections, ", "))
		}
	}
	return only, nil
}

// Cache is the folder of scripts/cache-dir for benchmarks, for whoever does not come through make.
func Cache() (string, error) {
	if dir := os.Getenv("OPENMIGRATE_CACHE"); dir != "" {
		return filepath.Join(dir, "bench"), nil
	}
	if os.Getuid() == 0 {
		return "/var/cache/openmigrate/bench", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "openmigrate", "bench"), err
}
