package channel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// ErrClosed is returned once the stream has ended.
var ErrClosed = errors.New("channel is closed")

// Client is the test's end.
type Client struct {
	conn io.ReadWriteCloser
	done chan struct{} // closed when the reader has ended

	writing sync.Mutex

	mu      sync.Mutex
	next    uint64                    // guarded by mu
	waiting map[uint64]chan *response // guarded by mu; nil when the reader has ended
}

// NewClient takes over conn.
func NewClient(conn io.ReadWriteCloser) *Client {
	c := &Client{conn: conn, done: make(chan struct{}), next: rand.Uint64(), waiting: map[uint64]chan *response{}}
	go c.read()
	return c
}

// Close ends the stream; calls that wait return ErrClosed.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

func (c *Client) read() {
	defer close(c.done)
	r := bufio.NewReader(c.conn)
	for {
		p := new(response)
		if readMessage(r, p) != nil {
			break
		}
		c.mu.Lock()
		ch := c.waiting[p.ID]
		delete(c.waiting, p.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- p
		}
	}
	c.mu.Lock()
	c.waiting = nil
	c.mu.Unlock()
}

func (c *Client) call(ctx context.Context, q *request) (*response, error) {
	ch := make(chan *response, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	c.next++
	q.ID = c.next
	c.waiting[q.ID] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, q.ID)
		c.mu.Unlock()
	}()

	// A guest that does not read blocks the write: leave it to a goroutine that ends with the connection.
	sent := make(chan error, 1)
	go func() {
		c.writing.Lock()
		defer c.writing.Unlock()
		sent <- writeMessage(c.conn, q)
	}()
	for {
		select {
		case err := <-sent:
			if err != nil {
				return nil, fmt.Errorf("send request: %w", err)
			}
			sent = nil
		case p := <-ch:
			if p.Err != "" {
				return nil, fmt.Errorf("guest: %s", p.Err)
			}
			return p, nil
		case <-c.done:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Ping returns nil once the guest answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.call(ctx, &request{Op: opPing})
	return err
}

// Run runs a program in the guest, with / as its working directory. An exit status other than 0 is no error. The guest
// kills the program's process group at ctx's deadline, or after ten minutes when there is none.
func (c *Client) Run(ctx context.Context, stdin []byte, args ...string) (Result, error) {
	limit := 10 * time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline)
	}
	p, err := c.call(ctx, &request{Op: opRun, Args: args, Stdin: stdin, Timeout: limit})
	if err != nil {
		return Result{}, fmt.Errorf("run %q: %w", args, err)
	}
	return Result{Status: p.Status, Stdout: p.Stdout, Stderr: p.Stderr}, nil
}

// Put writes a file of the guest with what r holds, and flushes it to the guest's disk.
func (c *Client) Put(ctx context.Context, path string, r io.Reader, mode os.FileMode) error {
	b := make([]byte, fileChunk)
	for offset := int64(0); ; {
		n, err := io.ReadFull(r, b)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return fmt.Errorf("put %s: %w", path, err)
		}
		if n > 0 || offset == 0 {
			if _, err := c.call(ctx, &request{Op: opPut, Path: path, Offset: offset, Data: b[:n], Mode: uint32(mode.Perm())}); err != nil {
				return fmt.Errorf("put %s: %w", path, err)
			}
		}
		if offset += int64(n); end {
			return nil
		}
	}
}

// Get copies a file of the guest to w.
func (c *Client) Get(ctx context.Context, path string, w io.Writer) error {
	for offset := int64(0); ; {
		p, err := c.call(ctx, &request{Op: opGet, Path: path, Offset: offset})
		if err == nil && len(p.Data) > 0 {
			_, err = w.Write(p.Data)
		}
		if err != nil {
			return fmt.Errorf("get %s: %w", path, err)
		}
		if len(p.Data) == 0 {
			return nil
		}
		offset += int64(len(p.Data))
	}
}
