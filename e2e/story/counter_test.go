//go:build e2e

package story

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// counter keeps outside of all machines what they say was committed.
type counter struct {
	port int

	mu    sync.Mutex
	boots map[string][]ack // guarded by mu
}

// ack says that all numbers up to n are committed.
type ack struct {
	at time.Time
	n  int64
}

// newCounter listens on the host's loopback until the test ends.
func newCounter(t *testing.T) *counter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{port: l.Addr().(*net.TCPAddr).Port, boots: map[string][]ack{}}
	var serving sync.WaitGroup
	conns := map[net.Conn]bool{}
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			conns[conn] = true
			c.mu.Unlock()
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				c.read(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.mu.Lock()
		for conn := range conns {
			_ = conn.Close()
		}
		c.mu.Unlock()
		serving.Wait()
	})
	return c
}

func (c *counter) read(conn net.Conn) {
	for s := bufio.NewScanner(conn); s.Scan(); {
		var boot string
		a := ack{at: time.Now()}
		if _, err := fmt.Sscan(s.Text(), &boot, &a.n); err != nil {
			continue
		}
		c.mu.Lock()
		c.boots[boot] = append(c.boots[boot], a)
		c.mu.Unlock()
	}
}

// of returns all that one boot of a machine said.
func (c *counter) of(boot string) []ack {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]ack(nil), c.boots[boot]...)
}

// last is the newest that one boot said; the zero ack: nothing.
func (c *counter) last(boot string) ack {
	all := c.of(boot)
	if len(all) == 0 {
		return ack{}
	}
	return all[len(all)-1]
}

// others are the boots that were heard of beside the given ones.
func (c *counter) others(known ...string) (boots []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
next:
	for b := range c.boots {
		for _, k := range known {
			if b == k {
				continue next
			}
		}
		boots = append(boots, b)
	}
	return boots
}

// pauses returns the longest pause between two acks of a boot from one time on, and the median.
func (c *counter) pauses(boot string, from time.Time) (longest, median time.Duration) {
	var all []time.Duration
	var before time.Time
	for _, a := range c.of(boot) {
		if a.at.Before(from) {
			continue
		}
		if !before.IsZero() {
			all = append(all, a.at.Sub(before))
		}
		before = a.at
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)-1], all[len(all)/2]
}
