package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// reporter tells a counter outside of the machine what was committed. It never holds the writer up.
type reporter struct {
	boot     string
	counters []string
	last     atomic.Int64
	wake     chan struct{}
}

func newReporter(boot string, counters []string) *reporter {
	return &reporter{boot: boot, counters: counters, wake: make(chan struct{}, 1)}
}

// say is called after each commit.
func (r *reporter) say(n int64) {
	r.last.Store(n)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// reportLimit bounds a connection and a line. A counter that is not there costs that much before the next one is tried.
const reportLimit = 2 * time.Second

func (r *reporter) run(ctx context.Context) {
	for ctx.Err() == nil {
		for _, to := range r.counters {
			r.report(ctx, to)
		}
		sleep(ctx, again)
	}
}

func (r *reporter) report(ctx context.Context, to string) {
	conn, err := (&net.Dialer{Timeout: reportLimit}).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		_ = conn.SetWriteDeadline(time.Now().Add(reportLimit))
		if _, err := fmt.Fprintf(conn, "%s %d\n", r.boot, r.last.Load()); err != nil {
			return
		}
	}
}
