package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
)

// Load is clients that commit, each one transaction after the other: a row in the table entry that is numbered, and changes of pages all over
// the table page.
type Load struct {
	s       *Server
	clients []*client
	wg      sync.WaitGroup
}

type client struct {
	number    int
	committed atomic.Int64
	in        io.WriteCloser
	cmd       *exec.Cmd
	stop      chan struct{}
	err       error
}

// pages is how many rows the table page has, of some 450 bytes.
const pages = 20000

// StartLoad makes the tables and starts n clients.
func (s *Server) StartLoad(n int) *Load {
	s.t.Helper()
	s.Query("create table entry (client int, n bigint, pad text, primary key (client, n));" +
		" create table page (id int primary key, pad text, filler char(400) default 'x');" +
		fmt.Sprintf(" insert into page select i, md5(i::text) from generate_series(0, %d) i", pages))
	l := &Load{s: s}
	for i := range n {
		l.clients = append(l.clients, l.start(i))
	}
	return l
}

// Committed is the number of the last row of each client whose commit was acknowledged.
func (l *Load) Committed() []int64 {
	var out []int64
	for _, c := range l.clients {
		out = append(out, c.committed.Load())
	}
	return out
}

// Stop ends the clients, and fails the test for those that failed.
func (l *Load) Stop() {
	l.s.t.Helper()
	for _, c := range l.clients {
		close(c.stop)
	}
	l.wg.Wait()
	for _, c := range l.clients {
		if c.err != nil {
			l.s.t.Error(c.err)
		}
	}
}

func (l *Load) start(number int) *client {
	t := l.s.t
	t.Helper()
	c := &client{number: number, stop: make(chan struct{}), cmd: l.s.command("psql", "-XqAt", "-v", "ON_ERROR_STOP=1")}
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() { c.err = c.work(bufio.NewScanner(out)) })
	return c
}

func (c *client) work(answers *bufio.Scanner) error {
	for n := int64(1); ; n++ {
		select {
		case <-c.stop:
			_ = c.in.Close() // psql ends with its input
			return c.cmd.Wait()
		default:
		}
		_, err := fmt.Fprintf(c.in, "begin; update page set pad = md5(random()::text) where id in (select (random() * %d)::int from generate_series(1, 3));"+
			" insert into entry values (%d, %d, repeat(md5(%d::text), 8)); commit; select %d;\n", pages, c.number, n, n, n)
		if err != nil {
			return err
		}
		if !answers.Scan() || answers.Text() != strconv.FormatInt(n, 10) {
			return fmt.Errorf("client %d: answer %q to %d: %w", c.number, answers.Text(), n, errors.Join(answers.Err(), io.ErrUnexpectedEOF))
		}
		c.committed.Store(n)
	}
}
