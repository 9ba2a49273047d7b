package channel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Serve is the guest's end: it answers requests, each in a goroutine of its own, until the stream ends. Commands that
// run then are killed.
func Serve(conn io.ReadWriter) error {
	ctx, cancel := context.WithCancel(context.Background())
	var (
		running sync.WaitGroup
		writing sync.Mutex
	)
	defer running.Wait()
	defer cancel()
	r := bufio.NewReader(conn)
	for {
		q := new(request)
		if err := readMessage(r, q); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return fmt.Errorf("read request: %w", err)
		}
		running.Go(func() {
			p := answer(ctx, q)
			p.ID = q.ID
			writing.Lock()
			defer writing.Unlock()
			// A stream that cannot be written ends for the reader, too.
			_ = writeMessage(conn, p)
		})
	}
}

func answer(ctx context.Context, q *request) *response {
	var (
		p   = new(response)
		err error
	)
	switch q.Op {
	case opPing:
	case opRun:
		err = run(ctx, q, p)
	case opPut:
		err = put(q)
	case opGet:
		p.Data, err = get(q)
	default:
		err = fmt.Errorf("unknown request %d", q.Op)
	}
	if err != nil {
		return &response{Err: err.Error()}
	}
	return p
}

func run(ctx context.Context, q *request, p *response) error {
	if len(q.Args) == 0 {
		return errors.New("no program named")
	}
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, q.Args[0], q.Args[1:]...)
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(q.Stdin)
	var stdout, stderr head
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A child that keeps the outputs open does not keep the answer.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	p.Stdout, p.Stderr = stdout.b, stderr.b
	if cmd.ProcessState == nil {
		return err
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	p.Status = status.ExitStatus()
	if status.Signaled() {
		p.Status = 128 + int(status.Signal())
	}
	return nil
}

// head keeps the first MaxOutput bytes.
type head struct{ b []byte }

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), MaxOutput-len(h.b))]...)
	return len(p), nil
}

func put(q *request) error {
	flags := os.O_CREATE | os.O_WRONLY
	if q.Offset == 0 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(q.Path, flags, os.FileMode(q.Mode))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(q.Data, q.Offset)
	return errors.Join(err, f.Chmod(os.FileMode(q.Mode)), f.Sync(), f.Close())
}

func get(q *request) ([]byte, error) {
	f, err := os.Open(q.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, fileChunk)
	n, err := f.ReadAt(b, q.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}
