package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseDisk(t *testing.T) {
	for in, want := range map[string][2]int{"0": {0, 0}, "3": {3, 0}, "0:1": {0, 1}, "12:5": {12, 5}} {
		if disk, part, err := parseDisk(in); err != nil || disk != want[0] || part != want[1] {
			t.Errorf("%s: %d, %d, %v", in, disk, part, err)
		}
	}
	for _, in := range []string{"", "x", "-1", "0:", "0:0", "0:-1", "0:x", ":1", "0:1:2"} {
		if _, _, err := parseDisk(in); err == nil {
			t.Errorf("%q was taken", in)
		}
	}
}

// A name on a disk may hold what would take over a terminal.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"plain name": "plain name", "ñ€": "ñ€", "\x1b]0;x\a": `"\x1b]0;x\a"`, "a\nb": `"a\nb"`, "\xff": `"\xff"`} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %s", in, got)
		}
	}
}

func TestCpRefuses(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := runCp(t.Context(), &app{}, &filesOptions{}, "r", "/x", there, false); err == nil {
		t.Error("a file that is there would be replaced")
	}
	c := newCp(&app{})
	c.SetArgs([]string{"no-path", there})
	c.SilenceUsage, c.SilenceErrors = true, true
	if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "R:PATH") {
		t.Errorf("R without a path: %v", err)
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}
