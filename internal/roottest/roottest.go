// Package roottest is for tests that a plain user or an odd kernel cannot run: there they are skipped, but never in CI.
package roottest

import (
	"os"
	"testing"
)

// Need ends the test unless it runs as root; what says for what.
func Need(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacks(t, "root is needed for "+what)
	}
}

// Lacks ends the test for want of something: it fails in CI, and is skipped elsewhere.
func Lacks(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("OPENMIGRATE_CI") != "" {
		t.Fatal(why + ", and in CI this test must run")
	}
	t.Skip(why)
}
