package progress

import (
	"bytes"
	"strings"
	"testing"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 1 << 20: "1.00 MiB", 1536 << 20: "1.50 GiB",
		20 << 30: "20.0 GiB", 700 << 30: "700 GiB", 1 << 62: "4.00 EiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPlainLinesWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	m := New(&out, "web1")
	m.Set(State{Phase: "scan", Total: 200 << 20, Done: 50 << 20, Note: "saved 10 %"})
	m.Set(State{Phase: "scan", Total: 200 << 20, Done: 60 << 20}) // too soon after the last line: not shown
	m.Finish("done")
	got := out.String()
	for _, want := range []string{"web1: scan 50.0 MiB of 200 MiB (25 %)", "saved 10 %", "\ndone\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("output %q lacks %q", got, want)
		}
	}
	if strings.Count(got, "\n") != 2 {
		t.Errorf("output %q: want one progress line and the last one", got)
	}
	if strings.ContainsRune(got, '\r') || strings.ContainsRune(got, '\x1b') {
		t.Errorf("output %q has terminal control codes", got)
	}
}
