package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Step is where something is that goes from one step to the next.
type Step struct {
	Name        string // of the step
	Total, Done int64  // bytes of it; Total 0: it cannot be counted
	Note        string // what to say beside it
	Elapsed     time.Duration
	Forecast    time.Duration // how long all steps will take together; 0: unknown
}

// Steps shows something that goes from one step to the next, with lines of a log: on a terminal the log scrolls above one line that is drawn again and again, elsewhere there
// is a line for each step and now and then one for how far it is. The caller sees to it that no text holds control characters. Any goroutine may call it.
type Steps struct {
	w     io.Writer
	title string
	width func() int // of the terminal; nil: there is none
	now   func() time.Time

	mu    sync.Mutex
	drawn string    // guarded by mu, what is on the last line of the terminal
	step  string    // guarded by mu, the last that a line told of
	told  time.Time // guarded by mu, when
}

// NewSteps shows something called title on w.
func NewSteps(w io.Writer, title string) *Steps {
	s := &Steps{w: w, title: title, now: time.Now}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.width = func() int {
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
				return width
			}
			return 80
		}
	}
	return s
}

// Set shows where it is now.
func (s *Steps) Set(at Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.width != nil {
		s.draw(clipTo(s.title+" "+at.text(true), s.width()-1))
		return
	}
	now := s.now()
	if at.Name == s.step && now.Sub(s.told) < Every {
		return
	}
	s.step, s.told = at.Name, now
	fmt.Fprintln(s.w, s.title+": "+at.text(false))
}

// Log leaves a line.
func (s *Steps) Log(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.width == nil {
		fmt.Fprintln(s.w, s.title+": "+line)
		return
	}
	again := s.drawn
	s.draw("")
	fmt.Fprintln(s.w, line)
	s.draw(again)
}

// Finish takes the drawn line away.
func (s *Steps) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draw("")
}

// draw replaces the drawn line. The caller holds mu.
func (s *Steps) draw(line string) {
	if s.width == nil || line == s.drawn {
		return
	}
	s.drawn = line
	fmt.Fprint(s.w, "\r\x1b[K"+line)
}

// barWidth is in characters.
const barWidth = 24

func (at *Step) text(drawing bool) string {
	text := at.Name
	if at.Total > 0 {
		done := min(max(at.Done, 0), at.Total)
		if drawing {
			full := int(float64(barWidth) * float64(done) / float64(at.Total))
			text += " |" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "|"
		}
		text += fmt.Sprintf(" %s of %s (%.0f %%)", Bytes(done), Bytes(at.Total), 100*float64(done)/float64(at.Total))
	}
	text += "  " + at.Elapsed.Round(time.Second).String()
	if at.Forecast > 0 {
		text += " of about " + at.Forecast.Round(time.Second).String()
	}
	if at.Note != "" {
		text += "  " + at.Note
	}
	return text
}

// clipTo cuts a line that the terminal would break: a broken line cannot be drawn again.
func clipTo(s string, width int) string {
	r := []rune(s)
	return string(r[:min(len(r), max(width, 1))])
}
