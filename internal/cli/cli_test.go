package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/openmigrate/openmigrate/wire"
)

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("boom"), 1},
		{fmt.Errorf("run: %w", Usagef("no such flag")), 2},
		{fmt.Errorf("show machine: %w", wire.NewProblem(404, wire.CodeNotFound, "no machine x")), 3},
		{wire.NewProblem(403, wire.CodeForbidden, "no"), 4},
		{wire.NewProblem(401, wire.CodeUnauthorized, "no"), 4},
		{wire.NewProblem(409, wire.CodeBusy, "no"), 5},
		{wire.NewProblem(500, wire.CodeInternal, "no"), 1},
	} {
		if got := Status(c.err); got != c.want {
			t.Errorf("Status(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

func TestRowKeepsTerminalSafe(t *testing.T) {
	var b bytes.Buffer
	Row(&b, "a\x1b[31m", "b\tc\n", "d\u202ee", 7)
	if got, want := b.String(), "a\ufffd[31m\tb\ufffdc\ufffd\td\ufffde\t7\n"; got != want {
		t.Errorf("Row wrote %q, want %q", got, want)
	}
}

func TestPrintJSONIsOneDocument(t *testing.T) {
	var b bytes.Buffer
	o := Output{Format: "json"}
	err := o.Print(&b, []string{}, func(io.Writer) { t.Error("table printed") })
	if err != nil || b.String() != "[]\n" {
		t.Errorf("Print = %q, %v; want an empty array", b.String(), err)
	}
}

func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"plain\nlines\n": "plain\nlines\n",
		"[\x1b[0;32m  OK  \x1b[0m] Started\r\nnext\rlast": "[  OK  ] Started\nnext\nlast",
		"\x1b]0;title\x07a\x1b]52;c;evil\x1b\\b\x1bc":     "ab",
		"\x1b":              "\ufffd",
		"\x9b2Ja":           "\ufffd2Ja",
		"a\x00b\u202e":      "a\ufffdb\ufffd",
		"\x1b]0;never ends": "",
		"a\tb   \n":         "a        b\n",
	} {
		if got := CleanText([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
