// Package progress shows how far a long operation is: a bar on a terminal, a plain line every few seconds elsewhere, so
// that a log stays readable. One Meter belongs to one goroutine at a time; Set may be called from any.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// State is how far an operation is. Bytes.
type State struct {
	Phase string
	Total int64 // 0: not known yet
	Done  int64
	Note  string // what to say beside it, e.g. what dedup saved so far
}

// Meter shows one operation.
type Meter struct {
	show  display
	mu    sync.Mutex
	state State // guarded by mu
}

type display interface {
	update(State)
	finish(message string)
}

// Every is how often a plain line is written where there is no terminal.
const Every = 5 * time.Second

// New shows an operation called title on w: with a bar if w is a terminal.
func New(w io.Writer, title string) *Meter {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &Meter{show: newBar(f, title)}
	}
	return &Meter{show: &lines{w: w, title: title, start: time.Now()}}
}

// Set shows s.
func (m *Meter) Set(s State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	m.show.update(s)
}

// Finish takes the bar away and leaves message, if any, as the last line.
func (m *Meter) Finish(message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.show.finish(message)
}

type bar struct {
	w     io.Writer
	pool  *mpb.Progress
	bar   *mpb.Bar
	mu    sync.Mutex
	state State // guarded by mu; read by the drawing goroutine
	last  time.Time
}

func newBar(w io.Writer, title string) *bar {
	b := &bar{w: w, pool: mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond)), last: time.Now()}
	b.bar = b.pool.New(0, mpb.BarStyle().Rbound("|"),
		mpb.PrependDecorators(decor.Name(title+" "), decor.Any(func(decor.Statistics) string { return b.get().Phase + " " })),
		mpb.AppendDecorators(
			decor.CountersKibiByte("% .1f / % .1f"),
			decor.Name("  "), decor.EwmaSpeed(decor.SizeB1024(0), "% .1f", 30),
			decor.Name("  ETA "), decor.EwmaETA(decor.ET_STYLE_GO, 30),
			decor.Any(func(decor.Statistics) string { return "  " + b.get().Note }),
		))
	return b
}

func (b *bar) get() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *bar) update(s State) {
	b.mu.Lock()
	b.state = s
	took := time.Since(b.last)
	b.last = time.Now()
	b.mu.Unlock()
	b.bar.SetTotal(max(s.Total, s.Done+1), false)
	b.bar.EwmaSetCurrent(s.Done, took)
}

func (b *bar) finish(message string) {
	b.bar.Abort(true)
	b.pool.Wait()
	if message != "" {
		fmt.Fprintln(b.w, message)
	}
}

type lines struct {
	w           io.Writer
	title       string
	start, last time.Time
}

func (l *lines) update(s State) {
	now := time.Now()
	if now.Sub(l.last) < Every {
		return
	}
	l.last = now
	rate := float64(s.Done) / max(now.Sub(l.start).Seconds(), 0.001)
	line := fmt.Sprintf("%s: %s %s", l.title, s.Phase, Bytes(s.Done))
	if s.Total > 0 {
		line += fmt.Sprintf(" of %s (%.0f %%)", Bytes(s.Total), 100*float64(s.Done)/float64(s.Total))
	}
	line += fmt.Sprintf(", %s/s", Bytes(int64(rate)))
	if s.Note != "" {
		line += ", " + s.Note
	}
	fmt.Fprintln(l.w, line)
}

func (l *lines) finish(message string) {
	if message != "" {
		fmt.Fprintln(l.w, message)
	}
}

// Bytes writes n with a binary unit and three digits, e.g. "1.46 GiB".
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f %ciB", v, units[i])
	case v < 100:
		return fmt.Sprintf("%.1f %ciB", v, units[i])
	}
	return fmt.Sprintf("%.0f %ciB", v, units[i])
}
