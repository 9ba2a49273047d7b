// Command server is what the source servers of package story serve: a writer that inserts consecutive numbers into PostgreSQL, one commit after the other, and
// an HTTP port that says what the table holds. It is in the copies, too, as any program of a server is.
//
//	server -listen :7000 -counter HOST:PORT,HOST:PORT
//
// Each commit that PostgreSQL acknowledged is reported to the first counter that can be reached, as a line "BOOT NUMBER". The boot's id tells
// the source from its copies. Without a counter the writer goes on, and a later line stands for all before.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", ":7000", "address of the HTTP port")
	counters := flag.String("counter", "", "addresses to report to, the first that can be reached")
	pause := flag.Duration("pause", 50*time.Millisecond, "between two commits")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, strings.Split(*counters, ","), *pause); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen string, counters []string, pause time.Duration) error {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	boot := strings.TrimSpace(string(b))
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	server := &http.Server{Handler: handler(boot), ReadHeaderTimeout: 10 * time.Second}
	go func() { served <- server.Serve(l) }()
	r := newReporter(boot, counters)
	reported := make(chan struct{})
	go func() { defer close(reported); r.run(ctx) }()
	err = write(ctx, boot, pause, r.say)
	cancel()
	<-reported
	_ = server.Close()
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// again is the pause before something that failed is tried again.
const again = 200 * time.Millisecond

// write inserts numbers until ctx ends. Whatever ends a session, the next one goes on after the last number that the table has.
func write(ctx context.Context, boot string, pause time.Duration, say func(int64)) error {
	for ctx.Err() == nil {
		if err := session(ctx, boot, pause, say); err != nil && ctx.Err() == nil {
			log.Print(err)
		}
		sleep(ctx, again)
	}
	return nil
}

func session(ctx context.Context, boot string, pause time.Duration, say func(int64)) error {
	s, err := connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var last int64
	if err := s.query("SELECT coalesce(max(id),0) FROM commits", &last); err != nil {
		return err
	}
	for ctx.Err() == nil {
		var got int64
		// Nothing in the table keeps a number from being there twice: that it is not is for the test to find out.
		if err := s.query(fmt.Sprintf("INSERT INTO commits(id,boot) VALUES (%d,'%s') RETURNING id", last+1, boot), &got); err != nil {
			return err
		}
		last = got
		say(last)
		sleep(ctx, pause)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
