package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestStepsWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	s := NewSteps(&out, "web1")
	s.now = func() time.Time { return now }
	s.Set(Step{Name: "hydrating", Total: 4 << 20, Done: 1 << 20, Elapsed: time.Second, Forecast: time.Minute})
	s.Set(Step{Name: "hydrating", Total: 4 << 20, Done: 2 << 20}) // too soon: not told
	s.Log("volume v1 is made")
	now = now.Add(Every)
	s.Set(Step{Name: "hydrating", Total: 4 << 20, Done: 5 << 20, Elapsed: 6 * time.Second})
	s.Set(Step{Name: "starting", Elapsed: 7 * time.Second, Note: "source frozen"})
	s.Finish()
	want := "web1: hydrating 1.00 MiB of 4.00 MiB (25 %)  1s of about 1m0s\nweb1: volume v1 is made\n" +
		"web1: hydrating 4.00 MiB of 4.00 MiB (100 %)  6s\nweb1: starting  7s  source frozen\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

// TestStepsOnTerminal: the log stays, the drawn line is never longer than the terminal is wide, and goes at the end.
func TestStepsOnTerminal(t *testing.T) {
	var out bytes.Buffer
	s := NewSteps(&out, "web1")
	s.width = func() int { return 30 }
	s.Set(Step{Name: "hydrating", Total: 2, Done: 1, Note: strings.Repeat("long ", 20)})
	s.Log("a line")
	s.Finish()
	const line = "\r\x1b[Kweb1 hydrating |============ "
	if got, want := out.String(), line+"\r\x1b[Ka line\n"+line+"\r\x1b[K"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
