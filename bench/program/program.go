// Package program is what the benchmarks' programs have in common: how they begin and end, a folder to work in, and what they say meanwhile.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Main runs a program until it ends or is interrupted, and exits with status 1 if it failed.
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, name+":", err)
		stop()
		os.Exit(1)
	}
}

// Work is a run's folder.
type Work struct {
	Dir   string
	Began time.Time
	keep  bool
}

// NewWork makes a folder in parent, which is made, too, whose name begins with prefix. With keep Close leaves it.
func NewWork(parent, prefix string, keep bool) (Work, error) {
	w := Work{Began: time.Now(), keep: keep}
	err := os.MkdirAll(parent, 0o755)
	if err == nil {
		w.Dir, err = os.MkdirTemp(parent, prefix)
	}
	if err != nil {
		return Work{}, fmt.Errorf("make work folder: %w", err)
	}
	return w, nil
}

// Close removes the folder.
func (w *Work) Close() error {
	if w.keep {
		w.Say("kept %s", w.Dir)
		return nil
	}
	return os.RemoveAll(w.Dir)
}

// Say tells on standard error what is going on, with the seconds since the start.
func (w *Work) Say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(w.Began).Seconds(), fmt.Sprintf(format, args...))
}
